"""Plans: what fits as wished, what is conceded and in which order, what is refused, and in which words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.models import fit, gguf
from poolcli.models.fit import ALL_LAYERS, Wishes
from poolcli.models.gguf import Gguf
from poolcli.models.hardware import Gpu, Hardware
from poolcli.models.local import demo_model

GB = 10**9
#: The measures of a model of 7 billion parameters in Q4_K_M.
SEVEN = Gguf(
    parts=(Path("seven.gguf"),),
    size=4_690_000_000,
    architecture="qwen2",
    name="Seven",
    quantisation="Q4_K_M",
    trained_context=32768,
    embedding=3584,
    vocabulary=152_064,
    heads=28,
    key_length=128,
    value_length=128,
    kv_heads=(4,) * 28,
    sliding=(False,) * 28,
    window=0,
    shared_values=False,
    state=0,
    experts=0,
    weights=4_680_000_000,
    layer_weights=(140_000_000,) * 28,
    input_weights=306_000_000,
    output_weights=447_000_000,
    chat_template=True,
    tokenizer="gpt2",
)
WISH = Wishes(context=16384, slots=2)


def machine(ram: float, *gpus: float, unified: bool = False) -> Hardware:
    return Hardware(
        int(ram * GB), tuple(Gpu("card", "CUDA", int(g * GB), int(g * GB)) for g in gpus), unified=unified
    )


def test_all_on_the_gpu() -> None:
    plan = fit.plan(SEVEN, machine(16, 24), WISH)
    assert (plan.gpu_layers, plan.context, plan.slots, plan.kv_type, plan.fits) == (
        ALL_LAYERS,
        16384,
        2,
        "f16",
        True,
    )
    assert plan.says == (
        "4.7 GB of weights + 1.9 GB of context (16,384 tokens, 2 slots) fit into 24 GB of GPU memory: "
        "all 28 layers there"
    )


def test_without_a_gpu() -> None:
    plan = fit.plan(SEVEN, machine(12), WISH)
    assert plan.fits and plan.gpu_layers == 0
    assert plan.says.endswith("fit into 12 GB of free memory")
    idle = Hardware(12 * GB, idle=(Gpu("RTX 9", "CUDA", 24 * GB, 24 * GB),))
    assert "cannot use the RTX 9, see docs/local-models.md" in fit.plan(SEVEN, idle, WISH).says


def test_concessions_come_in_their_order() -> None:
    """A GPU that shrinks: slots go first, then the precision of the cache, the context, and layers at last."""
    seen = []
    for tenth in range(100, 40, -1):
        plan = fit.plan(SEVEN, machine(16, tenth / 10), WISH)
        assert plan.fits
        form = (plan.slots, plan.kv_type, plan.context, plan.gpu_layers == ALL_LAYERS)
        if not seen or seen[-1] != form:
            seen.append(form)
    assert seen == [
        (2, "f16", 16384, True),
        (1, "f16", 16384, True),
        (1, "q8_0", 16384, True),
        (1, "q8_0", 8192, True),
        # With layers beside the GPU there is room again for all that was wished.
        (2, "f16", 16384, False),
    ]


def test_concessions_are_said() -> None:
    says = fit.plan(SEVEN, machine(16, 6.1), WISH).says
    assert says.endswith("less than wished to make it fit: 1 slot instead of 2, a q8_0 cache")


def test_some_layers_on_the_gpu() -> None:
    plan = fit.plan(SEVEN, machine(16, 4), WISH)
    assert 0 < plan.gpu_layers < 28
    assert f"with {plan.gpu_layers} of 28 layers in 4.0 GB of GPU memory, the rest in 16 GB" in plan.says
    more = fit.plan(SEVEN, machine(16, 2, 2), WISH)
    assert 0 < more.gpu_layers < plan.gpu_layers, "each GPU needs buffers of its own"


def test_what_a_person_set_stays() -> None:
    for name, value in (("context", 16384), ("slots", 2), ("kv_type", "f16")):
        fixed = replace(WISH, fixed=frozenset({name}))
        assert getattr(fit.plan(SEVEN, machine(16, 6), fixed), name) == value
    none = fit.plan(SEVEN, machine(16, 24), replace(WISH, gpu_layers=0))
    assert none.gpu_layers == 0 and "free memory" in none.says
    ten = fit.plan(SEVEN, machine(16, 24), replace(WISH, gpu_layers=10))
    assert ten.gpu_layers == 10 and ten.fits
    assert not fit.plan(SEVEN, machine(16, 2), replace(WISH, gpu_layers=28)).fits


def test_refused_with_numbers_and_what_would_fit() -> None:
    with pytest.raises(ModelError) as caught:
        fit.check(SEVEN, machine(4), WISH)
    assert re.fullmatch(
        r"4\.7 GB of weights \+ 250 MB of context \(8,192 tokens, 1 slot, q8_0\) \+ \d+ MB of buffers "
        r"do not fit into 4\.0 GB of free memory",
        str(caught.value),
    )
    assert re.search(r"a smaller model or quantisation of at most 2\.\d GB would fit", caught.value.hint)
    with pytest.raises(ModelError) as caught:
        fit.check(SEVEN, machine(5.5), replace(WISH, fixed=frozenset({"context"})))
    assert "16,384 tokens" in str(caught.value) and "smaller `context`" in caught.value.hint


def test_no_more_context_than_it_was_trained_for() -> None:
    assert fit.plan(replace(SEVEN, trained_context=4096), machine(64), WISH).context == 4096
    assert fit.plan(SEVEN, machine(64), Wishes(2048)).context == 2048, "a small wish is not made larger"


def test_memory_that_is_shared_is_counted_once() -> None:
    whole = SEVEN.weights + 2 * GB
    mac = Hardware(whole, (Gpu("Apple GPU", "Metal", whole, 0),), unified=True)
    assert fit.plan(SEVEN, mac, WISH).slots < 2
    assert (
        fit.plan(SEVEN, Hardware(3 * GB, (Gpu("Apple GPU", "Metal", 3 * GB, 0),), unified=True), WISH).fits
        is False
    )


def test_unknown_memory_refuses_nothing() -> None:
    assert fit.check(SEVEN, Hardware(0), WISH).says.endswith("fit into memory of unknown size")


def test_layers_that_see_a_window_or_nothing() -> None:
    full = sum(fit.cache_bytes(SEVEN, 16384, 1))
    sliding = replace(SEVEN, sliding=(True, False) * 14, window=1024)
    assert sum(fit.cache_bytes(sliding, 16384, 1)) == full // 2 + full // 2 * 1536 // 16384
    hybrid = replace(SEVEN, kv_heads=(0, 0, 0, 4) * 7)
    assert sum(fit.cache_bytes(hybrid, 16384, 1)) == full // 4
    latent = replace(SEVEN, kv_heads=(1,) * 28, key_length=576, value_length=512, shared_values=True)
    assert sum(fit.cache_bytes(latent, 16384, 1)) == 28 * 16384 * 576 * 2


@given(
    ram=st.floats(0.1, 200),
    gpus=st.lists(st.floats(0.5, 100), max_size=3),
    context=st.integers(512, 200_000),
    slots=st.integers(1, 16),
    fixed=st.frozensets(st.sampled_from(["context", "slots", "kv_type"])),
)
def test_a_plan_never_exceeds_wish_or_machine(
    ram: float, gpus: list[float], context: int, slots: int, fixed: frozenset[str]
) -> None:
    wishes = Wishes(context, slots, fixed=fixed)
    here = machine(ram, *gpus)
    plan = fit.plan(SEVEN, here, wishes)
    assert plan.slots <= slots and plan.context <= min(context, SEVEN.trained_context)
    assert plan.context >= min(context, fit.SMALLEST_CONTEXT)
    if plan.fits:
        assert plan.weights + plan.cache <= here.ram + here.gpu_memory
    richer = fit.plan(SEVEN, machine(ram + 10, *[g + 10 for g in gpus]), wishes)
    assert richer.fits or not plan.fits, "more memory never makes it fit less"


#: Loads a model with llama.cpp saying how much memory it takes.
LOAD = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.kv_unified, p.verbosity = sys.argv[1], 8192, 2, False, 5
p.cpuparams.n_threads, p.hostnames, p.port, p.warmup = 1, ["127.0.0.1"], 0, False
if sys.argv[2] == "q8_0":
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
xllamacpp.Server(p)
"""


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_the_cache_is_as_large_as_llama_cpp_says(kind: fit.KvType) -> None:
    pytest.importorskip("xllamacpp")
    argv = [sys.executable, "-c", LOAD, str(demo_model()), kind]
    cache = buffers = None
    # Ended as soon as it has said what we want to know: its own way to end is no part of this.
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            cache = cache or re.search(r"llama_kv_cache: size = +([\d.]+) MiB", line)
            buffers = buffers or re.search(r"compute buffer size = +([\d.]+) MiB", line)
            if cache and buffers:
                break
        server.kill()
    assert cache and buffers
    mib = 1 << 20
    model = gguf.read(demo_model())
    assert sum(fit.cache_bytes(model, 4096, 2, kind)) / mib == pytest.approx(float(cache[1]), abs=0.01)
    estimate = fit.buffer_bytes(model, 4096) / mib
    assert float(buffers[1]) <= estimate <= 3 * float(buffers[1]), "a rule of thumb, on the large side"
