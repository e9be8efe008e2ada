"""Evidence made in this process is byte for byte what the real runner's output gives."""

import subprocess
import sys
from random import Random

from poolcli.verdict.evidence import condense
from training.checks import run_checks
from training.family import make_instance


def test_evidence_equals_that_of_python_m_unittest(tmp_path):
    random = Random(4)
    for number in range(12):
        instance = make_instance(random)
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in instance.files.items():
            (folder / name).write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "unittest"],
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        real = condense(done.stdout, root=str(folder), exit_code=done.returncode)
        assert run_checks(instance.files, instance.module, instance.test).text == real.text


def test_modules_are_forgotten_afterwards():
    instance = make_instance(Random(5))
    run_checks(instance.files, instance.module, instance.test)
    assert instance.module.removesuffix(".py") not in sys.modules
    assert instance.test.removesuffix(".py") not in sys.modules
