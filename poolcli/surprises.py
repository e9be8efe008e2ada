"""What in a change deserves a second look before it is taken over: links out of the tree, and files that other
programs run or obey later, on the user's machine and without a sandbox.

Nothing here is forbidden. A task may be about a Makefile; who applies the change should know that it is in it.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatchcase

#: Lines that are given; a change with more of them needs reading anyway.
MOST = 12

#: Patterns of paths (lower case; without a slash they match in every folder), and what happens with such a file.
LATER: tuple[tuple[str, str], ...] = (
    (".githooks/* .husky/* lefthook.y*ml .lefthook.y*ml .pre-commit-config.yaml", "git hooks run it"),
    (".gitattributes .gitmodules .gitconfig", "git obeys it"),
    (".envrc .mise.toml .tool-versions", "your shell runs it when you enter the folder"),
    (".vscode/* .idea/* .devcontainer/* .devcontainer.json *.code-workspace .vimrc .exrc", "your editor obeys it"),
    ("package.json .npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs binding.gyp", "npm runs its scripts at an install"),
    ("setup.py setup.cfg pyproject.toml *.pth sitecustomize.py usercustomize.py", "Python or pip runs what it names"),
    ("build.rs .cargo/* build.gradle* settings.gradle* pom.xml extconf.rb", "a build runs it"),
    ("makefile gnumakefile *.mk justfile rakefile cmakelists.txt configure", "a build runs it"),
    (".github/workflows/* .github/actions/* .gitlab-ci.yml .circleci/* .travis.yml jenkinsfile", "your CI runs it"),
    ("azure-pipelines.yml bitbucket-pipelines.yml .buildkite/* .drone.yml", "your CI runs it"),
    ("dockerfile* docker-compose*.y*ml compose*.y*ml vagrantfile procfile", "a container is made from it"),
    (".pool/* .mcp.json agents.md claude.md .cursor/* .claude/* .github/copilot-instructions.md", "agents obey it"),
)  # fmt: skip
_RULES = tuple((pattern, why) for patterns, why in LATER for pattern in patterns.split())

_LINK, _SUBMODULE = "120000", "160000"
_MODE = re.compile(r"^(?:new file mode|new mode|index [0-9a-f]+\.\.[0-9a-f]+) (\d{6})$", re.M)


def look(patch: bytes) -> list[str]:
    """One line for each thing in a git patch that a person should look at; the last one may count the rest."""
    if not patch:
        return []
    from poolcli.verdict.tampering.changes import paths

    found: list[str] = []
    later: dict[str, list[str]] = {}
    names: set[str] = set()
    for block in _blocks(patch.decode("utf-8", "surrogateescape")):
        for _, path, _ in paths(block):
            if not path:
                continue
            names.add(path)
            head = block.partition("\n@@")[0]
            mode = next(iter(_MODE.findall(head)), "")
            if mode == _LINK and (why := _leads(path, _target(block))):
                found.append(why)
            elif mode == _SUBMODULE:
                found.append(f"{path} is a submodule: a commit of another repository")
            if said := _later(path):
                later.setdefault(said, []).append(path)
    found += [
        f"{folder or '.'} looks like a git folder: git obeys its config when it is run there"
        for folder in _bare(names)
    ]
    found += [f"{_some(files)}: {why}" for why, files in later.items()]
    if len(found) > MOST:
        return [*found[: MOST - 1], f"and {len(found) - MOST + 1} more like these"]
    return found


def _blocks(patch: str) -> list[str]:
    """The parts of a patch, a file each. Lines of content begin with another character than `d`."""
    return [f"diff --git {part}" for part in re.split(r"^diff --git ", patch, flags=re.M)[1:]]


def _target(block: str) -> str:
    """What a link in a patch leads to."""
    _, _, body = block.partition("\n@@")
    return "\n".join(line[1:] for line in body.split("\n") if line.startswith("+"))


def _leads(path: str, target: str) -> str:
    """Why a link is worth a look; '' when it stays in the tree."""
    parts = target.split("/")
    if target.startswith("/"):
        return f"{path} is a link out of the repository, to {target}"
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if place == ".." or place.startswith("../"):
        return f"{path} is a link out of the repository, to {target}"
    if any(part.lower() == ".git" for part in parts):
        return f"{path} is a link into .git, to {target}"
    # After a name that is itself a link, `..` leads anywhere.
    first = next((n for n, part in enumerate(parts) if part not in ("..", ".", "")), len(parts))
    return f"{path} is a link by a way round, to {target}" if ".." in parts[first:] else ""


def _later(path: str) -> str:
    lower = path.lower()
    name = posixpath.basename(lower)
    for pattern, why in _RULES:
        if fnmatchcase(lower, pattern) or fnmatchcase(lower, f"*/{pattern}") or fnmatchcase(name, pattern):
            return why
    return ""


def _bare(names: set[str]) -> list[str]:
    """Folders that git would take for a repository of their own."""
    heads = (posixpath.dirname(name) for name in sorted(names) if posixpath.basename(name).upper() == "HEAD")
    lower = {name.lower() for name in names}
    return [folder for folder in heads if posixpath.join(folder, "config").lower() in lower]


def _some(files: list[str]) -> str:
    return ", ".join(files[:4]) + (f" and {len(files) - 4} more" if len(files) > 4 else "")


__all__ = ["LATER", "look"]
