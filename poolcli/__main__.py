"""Where `pool` and `python -m poolcli` start. `--version` answers without loading the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] == ["--version"]:
        from poolcli import __version__

        sys.stdout.write(f"pool {__version__}\n")
        return
    import gc

    # Importing makes many objects and no garbage: looking for some costs 12 ms of CPU at every start.
    gc.set_threshold(100_000)
    from poolcli.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
