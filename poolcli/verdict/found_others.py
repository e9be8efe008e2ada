"""How projects in other languages than Python are tested, by the files that their tools read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from poolcli.verdict.recipes.shell import quoted
from poolcli.verdict.survey import (
    GRADLE_FILES,
    LOOKED_INTO,
    MAKEFILES,
    PHPUNIT_FILES,
    Candidate,
    Project,
    join,
)

_LOCKS = {
    "pnpm-lock.yaml": ("pnpm", "pnpm test"),
    "yarn.lock": ("yarn", "yarn test"),
    "bun.lock": ("bun", "bun run test"),
    "bun.lockb": ("bun", "bun run test"),
}
_MAKE_TEST = re.compile(r"^test[ \t]*::?(?!=)", re.M)
_MAKE_CHECK = re.compile(r"^check[ \t]*::?(?!=)", re.M)
_NODE_TEST = re.compile(r"""\bfrom\s+["']node:test["']|require\(["']node:test["']\)""")
_CTEST = re.compile(r"^\s*(?:enable_testing\s*\(|include\s*\(\s*CTest\s*\))", re.M | re.I)
_MINITEST = re.compile(r"minitest|test/unit|test_helper", re.I)
_RAKE_TEST = re.compile(r"(?:Rake::TestTask|Minitest::TestTask|\btask\b.*[:\"']test\b)")
_WORKSPACES = re.compile(
    r"--?w(?:orkspace)?s\b|\b(?:lerna|turbo|nx|foreach)\b|\b-r\b|--recursive\b|--filter\b"
)


def javascript(project: Project) -> Iterator[Candidate]:
    """The script `test` of every package, else the runner that a package configures."""
    packages = project.folders("package.json")
    for folder in packages:
        path = join(folder, "package.json")
        text = project.read(path) or ""
        manager, command = "npm", "npm test --silent"
        for lock, choice in _LOCKS.items():
            if join(folder, lock) in project.files or lock in project.files:
                manager, command = choice
                break
        # What a script comes down to takes reading it; most packages of a large repository have none.
        from poolcli.verdict.recipes import javascript as ways

        data = ways.package(text)
        if ways.script_text(data):
            script = ways.understood(data, manager)
            missing = "" if project.which(manager) else manager
            yield Candidate(
                *(command, f'{path} has a script "test"', folder, 2, missing),
                runner=script.runner,
                family="javascript",
                direct=script.direct,
            )
        if configured := _configured(project, folder, data):
            yield configured
    using = next(
        (p for p in _looked(project, (".js", ".cjs", ".mjs", ".ts", ".mts")) if _uses_node(project, p)), ""
    )
    if using:
        folder = next((f for f in reversed(packages) if not f or using.startswith(f"{f}/")), "")
        missing = "" if project.which("node") else "node"
        why = f"node: {using} imports node:test"
        yield Candidate("node --test", why, folder, 16, missing, runner="node-test", family="javascript")


def _configured(project: Project, folder: str, data: dict[str, object]) -> Candidate | None:
    """The runner that the package has as a dependency or a file for."""
    from poolcli.verdict.recipes.javascript import CONFIGURED, DIRECT

    depends: set[str] = set()
    for key in ("devDependencies", "dependencies"):
        table = data.get(key)
        depends.update(table if isinstance(table, dict) else ())
    beside = {name for name in _CONFIG_NAMES if join(folder, name) in project.files}
    for runner, pattern in CONFIGURED:
        file = next((name for name in sorted(beside) if pattern.match(name)), "")
        if file or runner in depends:
            reason = (
                f"{join(folder, file)} exists" if file else f"{join(folder, 'package.json')} depends on it"
            )
            missing = "" if project.which("npx") else "npx"
            return Candidate(
                *(DIRECT[runner], f"{runner}: {reason}", folder, 15, missing),
                runner=runner,
                family="javascript",
            )
    return None


_CONFIG_NAMES = (
    *(f"vitest.config.{ending}" for ending in ("js", "mjs", "cjs", "ts", "mts", "cts")),
    *(f"jest.config.{ending}" for ending in ("js", "mjs", "cjs", "ts", "mts", "cts", "json")),
    *(f".mocharc.{ending}" for ending in ("js", "cjs", "mjs", "json", "yml", "yaml")),
)


def runs_all_packages(project: Project, folder: str) -> bool:
    """Whether the script `test` of a package also runs those of the packages below it."""
    from poolcli.verdict.recipes import javascript as ways

    data = ways.package(project.read(join(folder, "package.json")) or "")
    return _WORKSPACES.search(ways.script_text(data)) is not None


def _uses_node(project: Project, path: str) -> bool:
    return _NODE_TEST.search(project.read(path) or "") is not None


def _looked(project: Project, endings: tuple[str, ...]) -> list[str]:
    return [path for path in project.others if path.endswith(endings)][:LOOKED_INTO]


def rust(project: Project) -> Iterator[Candidate]:
    """Cargo, nearest package first."""
    missing = "" if project.which("cargo") else "cargo"
    for folder in _tops(project, "Cargo.toml"):
        why = f"{join(folder, 'Cargo.toml')} exists"
        yield Candidate("cargo test -q", why, folder, 3, missing, runner="cargo", family="rust")
        if project.which("cargo-nextest"):
            yield Candidate(
                *("cargo nextest run", f"nextest: {why}", folder, 3),
                runner="nextest",
                family="rust",
            )


def go(project: Project) -> Iterator[Candidate]:
    """Every module: `./...` does not enter those below."""
    missing = "" if project.which("go") else "go"
    for folder in project.folders("go.mod"):
        why = f"{join(folder, 'go.mod')} exists"
        yield Candidate("go test ./...", why, folder, 4, missing, runner="go", family="go")


def jvm(project: Project) -> Iterator[Candidate]:
    """Maven and Gradle, by the wrapper that the project brings where it does. A build covers its modules."""
    for rank, runner, names, wrapper, program, arguments in (
        (6, "maven", ("pom.xml",), "mvnw", "mvn", "-B -ntp test"),
        (7, "gradle", GRADLE_FILES, "gradlew", "gradle", "test"),
    ):
        for folder in _tops(project, *names):
            name = next(name for name in names if folder in project.markers.get(name, ()))
            start, missing = program, "" if project.which(program) else program
            if join(folder, wrapper) in project.files:
                start, missing = f"./{wrapper}", "" if project.which("java") else "java"
            why = f"{join(folder, name)} exists"
            yield Candidate(f"{start} {arguments}", why, folder, rank, missing, runner=runner, family="jvm")


def ruby(project: Project) -> Iterator[Candidate]:
    """RSpec by its specs, minitest by its tests."""
    specs = [path for path in project.others if path.endswith("_spec.rb")]
    folders = list(dict.fromkeys([*_before(specs, "spec"), *project.folders(".rspec")]))
    for folder in folders:
        example = next((path for path in specs if path.startswith(join(folder, ""))), join(folder, ".rspec"))
        start, missing = _bundled(project, folder, "rspec")
        why = f"rspec: {example} exists"
        yield Candidate(f"{start}rspec", why, folder, 8, missing, runner="rspec", family="ruby")
    tests = [path for path in project.others if path.endswith("_test.rb") or _name(path).startswith("test_")]
    for folder in _before([path for path in tests if path.endswith(".rb")], "test"):
        example = next(path for path in tests if path.startswith(join(folder, "test/")))
        if not _MINITEST.search(project.read(example) or ""):
            continue
        rake = project.read(join(folder, "Rakefile")) or ""
        if join(folder, "bin/rails") in project.files:
            command, missing = "bin/rails test", "" if project.which("ruby") else "ruby"
        elif _RAKE_TEST.search(rake):
            start, missing = _bundled(project, folder, "rake")
            command = f"{start}rake test"
        else:
            start, missing = _bundled(project, folder, "ruby")
            # Both ways of naming test files, in an order that does not depend on the disk.
            load = 'Dir["./test/**/{*_test,test_*}.rb"].sort.each { |file| require file }'
            command = f"{start}ruby -Ilib -Itest -e {quoted(load)}"
        why = f"minitest: {example} uses it"
        yield Candidate(command, why, folder, 9, missing, runner="minitest", family="ruby")


def _bundled(project: Project, folder: str, program: str) -> tuple[str, str]:
    if join(folder, "Gemfile") in project.files:
        return "bundle exec ", "" if project.which("bundle") else "bundle"
    return "", "" if project.which(program) else program


def php(project: Project) -> Iterator[Candidate]:
    """PHPUnit, the project's own where Composer put it."""
    tests = [path for path in project.others if path.endswith("Test.php")]
    folders = project.folders(*PHPUNIT_FILES) or _before(tests, "tests")[:1]
    for folder in folders:
        name = next((name for name in PHPUNIT_FILES if folder in project.markers.get(name, ())), "")
        reason = (
            join(folder, name) if name else next(p for p in tests if p.startswith(join(folder, "tests/")))
        )
        if project.has(join(folder, "vendor/bin/phpunit")):
            start, missing = "vendor/bin/phpunit", "" if project.which("php") else "php"
        else:
            start, missing = (
                "phpunit",
                "" if project.which("phpunit") else "phpunit (in vendor/bin or on PATH)",
            )
        command = start if name else f"{start} tests"
        yield Candidate(
            *(command, f"phpunit: {reason} exists", folder, 10, missing), runner="phpunit", family="php"
        )


def native(project: Project) -> Iterator[Candidate]:
    """CTest, and what autotools make."""
    for folder in _tops(project, "CMakeLists.txt"):
        path = join(folder, "CMakeLists.txt")
        if not _CTEST.search(project.read(path) or ""):
            continue
        missing = next((name for name in ("cmake", "ctest") if not project.which(name)), "")
        build = "build" if not _occupied(project, join(folder, "build/")) else "_build"
        # The folder hides itself from git: what is built must not become part of a change.
        command = (
            f"mkdir -p {build} && echo '*' > {build}/.gitignore && cmake -S . -B {build} && "
            f"cmake --build {build} && ctest --test-dir {build} --output-on-failure"
        )
        why = f"ctest: {path} turns testing on"
        yield Candidate(command, why, folder, 11, missing, runner="ctest", family="native")
    for folder in _tops(project, "Makefile.am"):
        prepare = "" if project.has(join(folder, "Makefile")) else "./configure && "
        if prepare and join(folder, "configure") not in project.files:
            prepare = "autoreconf -i && ./configure && "
        missing = "" if project.which("make") else "make"
        why = f"{join(folder, 'Makefile.am')} exists"
        yield Candidate(f"{prepare}make check", why, folder, 17, missing, runner="make", family="native")
    scripts = [path for path in project.others if path.endswith(".t")]
    for folder in _before(scripts, "t")[:1]:
        missing = "" if project.which("prove") else "prove"
        why = f"prove: {scripts[0]} exists"
        yield Candidate("prove -lr t", why, folder, 12, missing, runner="prove", family="perl")


def make(project: Project) -> Iterator[Candidate]:
    """A target `test`, else `check`."""
    missing = "" if project.which("make") else "make"
    for target, pattern, rank in (("test", _MAKE_TEST, 5), ("check", _MAKE_CHECK, 17)):
        for name in MAKEFILES:
            for folder in project.folders(name)[:3]:
                path = join(folder, name)
                text = project.read(path) or ""
                if pattern.search(text):
                    yield Candidate(
                        *(f"make {target}", f"{path} has a target {target}", folder, rank, missing),
                        runner="make",
                        report_kind="junit" if _starts_pytest(text, target) else "",
                    )
                    break


def _starts_pytest(makefile: str, target: str) -> bool:
    """Whether the target's own lines start pytest, once, where it sees the environment."""
    body = re.search(rf"^{target}[ \t]*::?(?!=).*\n((?:\t.*\n?|[ \t]*\n)*)", makefile, re.M)
    lines = body[1] if body else ""
    return len(re.findall(r"\bpytest\b", lines)) == 1 and not re.search(
        r"\b(?:docker|podman|tox|nox)\b", lines
    )


def _occupied(project: Project, start: str) -> bool:
    return any(path.startswith(start) for path in project.files)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _before(paths: list[str], part: str) -> list[str]:
    """The folders that hold a folder of this name with one of the files in it, the nearest to the root first."""
    found = []
    for path in paths:
        before, inside, _ = f"/{path}".partition(f"/{part}/")
        if inside:
            found.append(before.removeprefix("/"))
    return sorted(set(found), key=lambda folder: (folder.count("/") + bool(folder), folder))


def _tops(project: Project, *names: str) -> list[str]:
    """The folders with such a file that no other one of them lies above: its build covers what is below."""
    kept: list[str] = []
    for folder in project.folders(*names):
        if not any(not top or folder.startswith(f"{top}/") for top in kept):
            kept.append(folder)
    return kept


#: What looks for candidates, one kind of project each.
KINDS: tuple[Callable[[Project], Iterator[Candidate]], ...] = (
    javascript,
    rust,
    go,
    jvm,
    ruby,
    php,
    native,
    make,
)
