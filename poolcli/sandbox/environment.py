"""The environment of commands: no secrets, no prompts, no pagers, no colours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

#: Parts of a name that mean a secret. Too much is dropped rather than too little.
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|PASSWD|CREDENTIAL|PRIVATE|AUTH|COOKIE|SESSION_ID|_PAT$|_DSN$|WEBHOOK",
    re.I,
)
#: A URL with a user and a password in it, whatever the variable is called.
_URL_WITH_PASSWORD = re.compile(r"://[^/@\s:]*:[^/@\s]+@")
#: Names that look like a secret and are not.
_HARMLESS = frozenset({"TOKENIZERS_PARALLELISM", "KEYTIMEOUT"})
#: Programs of our own, of git, of an agent for keys, and of cloud tools that log in by themselves.
_PREFIXES = (
    "POOL_",
    "GIT_",
    "SSH_",
    "GPG_",
    "AWS_",
    "AZURE_",
    "VAULT_",
    "BASH_FUNC_",
    "PIP_INDEX",
    "PIP_EXTRA",
    "LC_",
)
_DROPPED = frozenset(
    {
        # Run or read by every shell: commands must not depend on the user's own scripts.
        "BASH_ENV",
        "ENV",
        "PROMPT_COMMAND",
        "CDPATH",
        "SHELLOPTS",
        "BASHOPTS",
        # Colours and sizes of a terminal that is not there.
        "COLUMNS",
        "LINES",
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
        "LANGUAGE",
        # Doors to the user's desktop, cluster and containers.
        "DBUS_SESSION_BUS_ADDRESS",
        "KUBECONFIG",
        "NETRC",
        "PGPASSFILE",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "PYTHONHOME",
        "PYTHONSTARTUP",
    }
)

FIXED: Mapping[str, str] = {
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "EDITOR": "true",
    "VISUAL": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    # Output of a command that is killed at its timeout must not be stuck in a buffer.
    "PYTHONUNBUFFERED": "1",
    # Byte code is told from its source by whole seconds and size: an edit of the same length right after the
    # baseline would be judged by the old code.
    "PYTHONDONTWRITEBYTECODE": "1",
}


def command_environment(
    base: Mapping[str, str], *, run_id: str, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What a command sees of `base`: without secrets, with our fixed values, then `extra`.

    POOL_RUN marks every process of a run, so that those which outlive their command are found.
    """
    kept = {name: value for name, value in base.items() if not _withheld(name, value)}
    return {**kept, **FIXED, **(extra or {}), "POOL_RUN": run_id}


#: Of the user's environment, what confined commands keep: which time zone, which tools. Nothing that can hold
#: a secret, an address of a service or options that make programs run others.
KEPT = (
    "TZ",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "JAVA_HOME",
    "GOROOT",
    "CUDA_HOME",
    "NVM_DIR",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "PYTHONPATH",
    "TOKENIZERS_PARALLELISM",
)
#: Who commits inside a run: never the user, whose name and key commands do not see.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "pool",
    "GIT_AUTHOR_EMAIL": "pool@localhost",
    "GIT_COMMITTER_NAME": "pool",
    "GIT_COMMITTER_EMAIL": "pool@localhost",
}


def confined_environment(
    base: Mapping[str, str],
    *,
    run_id: str,
    home: str,
    tmp: str = "/tmp",
    keep: Iterable[str] = (),
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The whole environment of a command in a sandbox: a short list, whatever else is in `base`.

    `home` and `tmp` are paths as commands see them. `keep` names variables that the user wants passed on,
    also ones that look like a secret. `extra` comes last.
    """
    name = base.get("USER") or base.get("LOGNAME") or "pool"
    # A relative folder in PATH lets any folder that a command enters decide what `ls` is.
    path = [entry for entry in base.get("PATH", "").split(os.pathsep) if entry.startswith("/")]
    chosen = {key: base[key] for key in (*KEPT, *keep) if key in base and not key.startswith("BASH_FUNC_")}
    return {
        **chosen,
        **FIXED,
        **_IDENTITY,
        "PATH": os.pathsep.join(path) or os.defpath.removeprefix(":"),
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": "/bin/bash",
        "TMPDIR": tmp,
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "XDG_STATE_HOME": f"{home}/.local/state",
        **(extra or {}),
        "POOL_RUN": run_id,
    }


def _withheld(name: str, value: str) -> bool:
    if name in _HARMLESS:
        return False
    return (
        name in _DROPPED
        or name.startswith(_PREFIXES)
        or _SECRET.search(name) is not None
        or _URL_WITH_PASSWORD.search(value) is not None
    )
