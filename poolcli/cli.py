"""Every command: its options and help. Each body imports one module and calls it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from poolcli.errors import Exit, PoolError, UsageError

# Rich help and tracebacks cost 60 ms of CPU per start and show a stranger's source in error messages.
app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A coding agent for models you host yourself. It works in a git worktree, runs your checks itself "
    "and goes on until they pass; exit code 0 means that they do.",
    epilog="Exit codes: 0 verified, 1 internal error, 2 usage or configuration, 3 not verified, 4 the model gave up, "
    "5 a budget ran out, 6 the model server failed, 7 tampering, 8 refused, 130/143 interrupted.",
)
config_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="See the configuration and where each value comes from."
)
app.add_typer(config_app, name="config")
models_app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The models within reach: find one, measure it, use it; fetch and serve model files.",
)
app.add_typer(models_app, name="models", short_help="Find, measure, fetch and serve models.")
checks_app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The commands that decide whether work is done: which were found and why; run them.",
)
app.add_typer(checks_app, name="checks", short_help="Show and run the checks of this repository.")

RunArgument = Annotated[
    str, typer.Argument(metavar="[RUN]", help="Run id, a part of it, or `last`.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Model name at the server; or `demo`, `scripted:FILE`, a .gguf file.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="OpenAI-compatible server, e.g. http://127.0.0.1:8080/v1.",
        show_default=False,
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        "--test", "-t", metavar="CMD", help="The checks: a command that must exit 0.", show_default=False
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="The event log on stdout, one JSON line per event, and nothing else.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain text: no colours, no status line.")]
MaxTurns = Annotated[
    int | None,
    typer.Option(
        "--max-turns",
        metavar="N",
        min=0,
        help="At most N requests to the model (0: no limit).",
        show_default="50",
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        metavar="N",
        min=0,
        help="At most N tokens, prompts and replies together.",
        show_default="no limit",
    ),
]
AllowInsecure = Annotated[
    bool,
    typer.Option("--allow-insecure", help="Send the key to another machine even by plain http."),
]
AllowNet = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-net",
        metavar="HOST",
        help="Let commands reach this host (HOST, HOST:PORT, *.HOST). May be given more than once.",
        show_default=False,
    ),
]
MaxRounds = Annotated[
    int | None,
    typer.Option(
        "--max-rounds",
        metavar="N",
        min=0,
        help="At most N runs of the checks after the model says it is done.",
        show_default="5",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        help="Time for the whole run: seconds, or 90s, 10m, 2h.",
        show_default="no limit",
    ),
]
ChecksTimeout = Annotated[
    str | None,
    typer.Option(
        "--checks-timeout",
        metavar="TIME",
        help="Time for one run of the checks.",
        show_default="600",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", metavar="T", min=0, help="Sampling temperature.", show_default="the model's"
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Sampling seed.", show_default="none")]
Reasoning = Annotated[
    str | None,
    typer.Option(
        "--reasoning",
        metavar="HOW",
        help="How much the model thinks first: off, low, medium or high.",
        show_default="the model's own",
    ),
]
Sandbox = Annotated[
    str | None,
    typer.Option(
        "--sandbox",
        metavar="KIND",
        help="What confines commands: auto, bubblewrap, landlock (reduced), external (this container), none.",
        show_default="auto",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="What is asked: ask (edits and commands), edits (commands), auto (nothing); plan changes nothing.",
        show_default="auto in a sandbox, else edits",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="RULE", help="Do not ask about this; may be repeated.", show_default=False
    ),
]
Ask = Annotated[
    list[str] | None,
    typer.Option("--ask", metavar="RULE", help="Ask about this, e.g. 'shell:git push'.", show_default=False),
]
Deny = Annotated[
    list[str] | None,
    typer.Option("--deny", metavar="RULE", help="Never do this, e.g. 'edit:.github/**'.", show_default=False),
]
TrustProject = Annotated[
    bool,
    typer.Option("--trust-project", help="Use this repository's .pool/ for this once, whoever wrote it."),
]
ResultFile = Annotated[
    Path | None,
    typer.Option("--result", metavar="FILE", help="Write result.json here too.", show_default=False),
]
Apply = Annotated[bool, typer.Option("--apply", help="Land the change in your checkout when it is verified.")]
Patch = Annotated[bool, typer.Option("--patch", help="Print the patch on stdout, everything else on stderr.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from poolcli import __version__

        typer.echo(f"pool {__version__}")
        raise typer.Exit


@app.command("do", short_help='Do a task: pool do "fix the failing test"')
def do(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]", help="What to do, in a sentence; `-` reads it from stdin.", show_default=False
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the task from a file.", show_default=False),
    ] = None,
    test: Test = None,
    no_checks: Annotated[
        bool, typer.Option("--no-checks", help="It is fine that nothing verifies the result.")
    ] = False,
    model: Model = None,
    base_url: BaseUrl = None,
    apply: Apply = False,
    patch: Patch = False,
    json: Json = False,
    plain: Plain = False,
    result: ResultFile = None,
    max_turns: MaxTurns = None,
    max_tokens: MaxTokens = None,
    max_rounds: MaxRounds = None,
    timeout: Timeout = None,
    checks_timeout: ChecksTimeout = None,
    temperature: Temperature = None,
    seed: Seed = None,
    reasoning: Reasoning = None,
    sandbox: Sandbox = None,
    mode: Mode = None,
    allow: Allow = None,
    ask: Ask = None,
    deny: Deny = None,
    allow_net: AllowNet = None,
    allow_insecure: AllowInsecure = False,
    trust_project: TrustProject = False,
) -> None:
    """Do TASK in this repository, in a worktree of its own, until the checks pass.

    Text piped in is quoted to the model beside TASK, or is the task when none is given.
    Your checkout is not touched; `pool apply` lands the change.
    """
    from poolcli.commands import do as command

    flags = {
        "test": test,
        "model": model,
        "base_url": base_url,
        "max_turns": max_turns,
        "max_tokens": max_tokens,
        "max_rounds": max_rounds,
        "allow_net": allow_net or None,
        "allow_insecure": "yes" if allow_insecure else None,
        "timeout": timeout,
        "checks_timeout": checks_timeout,
        "temperature": temperature,
        "seed": seed,
        "reasoning": reasoning,
        "sandbox": sandbox,
        "mode": mode,
        "policy": _rules(allow, ask, deny),
        "trust_project": trust_project,
    }
    output = command.Output(json=json, plain=plain, patch=patch, apply=apply, result=result)
    _exit(command.do(task, file, flags, output, no_checks=no_checks))


@app.command("resume", short_help="Go on with a run that ended early.")
def resume(
    run: RunArgument = "last",
    message: Annotated[
        str | None,
        typer.Option(
            "--message",
            "-M",
            metavar="TEXT",
            help="Say this to the model before it goes on.",
            show_default=False,
        ),
    ] = None,
    test: Test = None,
    model: Model = None,
    base_url: BaseUrl = None,
    apply: Apply = False,
    patch: Patch = False,
    json: Json = False,
    plain: Plain = False,
    result: ResultFile = None,
    max_turns: MaxTurns = None,
    max_tokens: MaxTokens = None,
    max_rounds: MaxRounds = None,
    timeout: Timeout = None,
    checks_timeout: ChecksTimeout = None,
    temperature: Temperature = None,
    seed: Seed = None,
    reasoning: Reasoning = None,
    sandbox: Sandbox = None,
    mode: Mode = None,
    allow: Allow = None,
    ask: Ask = None,
    deny: Deny = None,
    allow_net: AllowNet = None,
    allow_insecure: AllowInsecure = False,
    trust_project: TrustProject = False,
) -> None:
    """Go on with a run that was interrupted, killed, or ended unverified. Budgets start anew."""
    from poolcli.commands import do as command

    flags = {
        "test": test,
        "model": model,
        "base_url": base_url,
        "max_turns": max_turns,
        "max_tokens": max_tokens,
        "max_rounds": max_rounds,
        "allow_net": allow_net or None,
        "allow_insecure": "yes" if allow_insecure else None,
        "timeout": timeout,
        "checks_timeout": checks_timeout,
        "temperature": temperature,
        "seed": seed,
        "reasoning": reasoning,
        "sandbox": sandbox,
        "mode": mode,
        "policy": _rules(allow, ask, deny),
        "trust_project": trust_project,
    }
    output = command.Output(json=json, plain=plain, patch=patch, apply=apply, result=result)
    _exit(command.resume(run, message, flags, output))


@app.command("diff")
def diff(run: RunArgument = "last") -> None:
    """Print a run's patch."""
    from poolcli.commands import landing

    _exit(landing.diff(run))


@app.command("apply")
def apply_(
    run: RunArgument = "last",
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch",
            metavar="NAME",
            help="Make this branch instead; the checkout stays.",
            show_default=False,
        ),
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Commit the change on the current branch.")
    ] = False,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="Commit message.", show_default="the task")
    ] = None,
    choose: Annotated[
        bool, typer.Option("--patch", "-p", help="Ask hunk by hunk what to take, as `git add -p` does.")
    ] = False,
) -> None:
    """Land a run's patch in your checkout: all of it or nothing, or with --patch what you choose."""
    from poolcli.commands import landing

    _exit(landing.apply(run, branch=branch, commit=commit, message=message, choose=choose))


@app.command("undo")
def undo(
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="Run id or `last`.", show_default="the one applied last")
    ] = "",
) -> None:
    """Take the last `pool apply` back: every file as it was, unless you changed it since."""
    from poolcli.commands import landing

    _exit(landing.undo(run))


@app.command("discard")
def discard(
    run: RunArgument = "last",
    log: Annotated[bool, typer.Option("--log", help="Delete the run's log too.")] = False,
) -> None:
    """Throw a run's work away: its worktree and patch. The log stays, unless --log is given."""
    from poolcli.commands import landing

    _exit(landing.discard(run, log=log))


@app.command("show")
def show(run: RunArgument = "last", json: Json = False, plain: Plain = False) -> None:
    """Replay a run as it was shown, from its log."""
    from poolcli.commands import history

    _exit(history.show(run, json=json, plain=plain))


@app.command("log")
def log(
    json: Annotated[bool, typer.Option("--json", help="One JSON object per run.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most this many runs.")
    ] = 20,
) -> None:
    """List the runs of this repository, newest first."""
    from poolcli.commands import history

    _exit(history.log(json=json, limit=limit))


@config_app.command("show")
def config_show(json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Print every value and where it came from."""
    from poolcli.commands import config

    _exit(config.show(json=json))


@checks_app.callback()
def checks(
    context: typer.Context,
    test: Test = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON array.")] = False,
) -> None:
    """The commands that check this repository; without a command they are listed, with the reason for each."""
    if context.invoked_subcommand is None:
        from poolcli.commands import checks as command

        _exit(command.show({"test": test}, json=json))


@checks_app.command("run", short_help="Run the checks here.")
def checks_run(
    tests: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEST…]", help="Only these tests: ids or files.", show_default=False),
    ] = None,
    test: Test = None,
    checks_timeout: ChecksTimeout = None,
    json: Annotated[bool, typer.Option("--json", help="Every test's outcome, as one JSON array.")] = False,
) -> None:
    """Run the checks in your checkout, those nearest to what changed first; exit code 0 means that all pass.

    They run with your rights, outside the sandbox, as when you type them yourself.
    """
    from poolcli.commands import checks as command

    _exit(command.run(tests or [], {"test": test, "checks_timeout": checks_timeout}, json=json))


@app.command("verify", short_help="Judge a change by execution: a run, commits or a patch.")
def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[RUN|RANGE]",
            help="Run id or `last`; commits `A..B`, or one commit.",
            show_default="last",
        ),
    ] = "",
    patch: Annotated[
        str | None,
        typer.Option(
            "--patch", metavar="FILE", help="A patch against HEAD instead; `-` is stdin.", show_default=False
        ),
    ] = None,
    test: Test = None,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="TEXT",
            help="What was asked for; tests may change when it is about them.",
            show_default="the run's task, the commits' messages",
        ),
    ] = "",
    mutants: Annotated[
        int,
        typer.Option(
            "--mutants", metavar="N", min=0, help="Put at most N small errors into the changed lines."
        ),
    ] = 0,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Say which changed lines did not run.")
    ] = False,
    checks_timeout: ChecksTimeout = None,
    json: Annotated[bool, typer.Option("--json", help="The sheet as one JSON object.")] = False,
    junit: Annotated[
        str, typer.Option("--junit", metavar="FILE", help="Write it as JUnit XML.", show_default=False)
    ] = "",
    markdown: Annotated[
        str, typer.Option("--markdown", metavar="FILE", help="Write it as Markdown.", show_default=False)
    ] = "",
    sandbox: Sandbox = None,
) -> None:
    """Run the checks before and after a change, each in a fresh checkout, and say what that proves.

    Exit code 0: verified, 3: not verified, 7: it tampers with what judges it. Your checkout is only read.
    """
    from poolcli.commands import verify as command

    flags = {"test": test, "checks_timeout": checks_timeout, "sandbox": sandbox}
    output = command.Output(json=json, junit=junit, markdown=markdown)
    _exit(command.verify(what, patch, flags, output, mutants=mutants, coverage=coverage, task=task))


@models_app.callback()
def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="The list as one JSON object.")] = False,
) -> None:
    """The models within reach; without a command they are listed."""
    if context.invoked_subcommand is None:
        from poolcli.commands import models as command

        _exit(command.reachable(json=json))
    if json:
        raise UsageError(
            "--json stands behind the command", f"pool models {context.invoked_subcommand} … --json"
        )


@models_app.command("use", short_help="Measure a model and make it the one that is used.")
def models_use(
    what: Annotated[
        str,
        typer.Argument(
            metavar="URL|NAME", help="A server's URL, `demo`, a downloaded model's name or a .gguf file."
        ),
    ],
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Which of the server's models.", show_default=False)
    ] = "",
    key_stdin: Annotated[
        bool, typer.Option("--key-stdin", help="Read the server's key from stdin and store it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The profile as one JSON object.")] = False,
) -> None:
    """Find out what the model can do, remember it, and write it into your configuration.

    The key is POOL_API_KEY or the stored one. The questions take a minute on most servers.
    """
    from poolcli.commands import models as command

    _exit(command.use(what, model, key_stdin=key_stdin, json=json))


@models_app.command("get", short_help="Fetch a model file.")
def models_get(
    what: Annotated[
        str,
        typer.Argument(metavar="NAME|REPO|URL|FILE", help="What to fetch; `pool models list` shows names."),
    ],
    file: Annotated[
        str, typer.Option("--file", metavar="NAME", help="Which file of a repository.", show_default=False)
    ] = "",
    revision: Annotated[
        str,
        typer.Option("--revision", metavar="REV", help="Branch, tag or commit of it.", show_default=False),
    ] = "",
    sha256: Annotated[
        str,
        typer.Option("--sha256", metavar="HEX", help="Checksum that it has to have.", show_default=False),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call it here.", show_default=False)
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a large download.")] = False,
) -> None:
    """Fetch a model file, checked and resumable, to be served by `pool` itself."""
    from poolcli.commands import model_files as command

    _exit(command.get(what, file=file, revision=revision, yes=yes, sha256=sha256, name=name))


@models_app.command("list")
def models_list(
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """List the model files that are here and what can be fetched."""
    from poolcli.commands import model_files as command

    _exit(command.list_files(json=json))


@models_app.command("rm")
def models_rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A fetched model.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a fetched model file."""
    from poolcli.commands import model_files as command

    _exit(command.rm(name, yes=yes))


@models_app.command("serve", short_help="Serve a model file, for pool and for other programs.")
def models_serve(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="`demo`, a fetched model or a .gguf file.",
            show_default="the configured",
        ),
    ] = "",
    port: Annotated[
        int,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Port.", show_default="a free one"),
    ] = 0,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            "-c",
            metavar="N",
            min=0,
            help="Tokens of context of a conversation.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=0, help="CPU threads.", show_default=False)
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="NAME",
            help="Which llama.cpp: auto, xllamacpp or llama-server.",
            show_default=False,
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", metavar="N", min=1, help="Conversations at once.", show_default=False),
    ] = None,
    kv_type: Annotated[
        str | None,
        typer.Option("--kv-type", metavar="TYPE", help="Cache type: f16 or q8_0.", show_default=False),
    ] = None,
    gpu_layers: Annotated[
        int | None,
        typer.Option("--gpu-layers", metavar="N", min=0, help="Layers on the GPU.", show_default=False),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="FILE:SCALE", help="An adapter; may be repeated.", show_default=False),
    ] = None,
    idle: Annotated[
        str | None,
        typer.Option("--idle", metavar="TIME", help="It ends when unused for so long.", show_default="600"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Load it though it does not seem to fit.")] = False,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the server's key too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Where it is served, as one JSON object.")] = False,
) -> None:
    """Serve a model on this machine until it is stopped or idle; all `pool` processes share it."""
    from poolcli.commands import model_servers as command

    flags = {
        "context": context,
        "threads": threads,
        "server": server,
        "slots": slots,
        "kv_type": kv_type,
        "gpu_layers": gpu_layers,
        "lora": lora or None,
        "idle": idle,
        "force": force or None,
        "show_key": show_key or None,
    }
    _exit(command.serve(reference, flags, port=port, json=json))


@models_app.command("stop")
def models_stop(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Which one, when there are several.", show_default=False)
    ] = "",
    all: Annotated[bool, typer.Option("--all", help="Every server that pool started.")] = False,
) -> None:
    """Stop a server that pool started."""
    from poolcli.commands import model_servers as command

    _exit(command.stop(name, all=all))


@models_app.command("logs")
def models_logs(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Which one, when there are several.", show_default=False)
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="The last N lines.")] = 50,
) -> None:
    """Print the log of a server that pool started."""
    from poolcli.commands import model_servers as command

    _exit(command.logs(name, follow=follow, lines=lines))


@app.command("doctor", short_help="Check that everything is in place.")
def doctor(
    model: Model = None,
    base_url: BaseUrl = None,
    test: Test = None,
    probe: Annotated[bool, typer.Option("--probe", help="Measure the model again.")] = False,
) -> None:
    """Say whether git, sandbox, model, context window and checks are found; each line with a fix."""
    from poolcli.commands import doctor as command

    _exit(command.run({"model": model, "base_url": base_url, "test": test}, probe=probe))


@app.command("trust", short_help="Let this repository's .pool/ have an effect.")
def trust(
    show: Annotated[bool, typer.Option("--show", help="Only show what is trusted and what is not.")] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Trust it no more, and forget answers for this project.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Trust what is shown without asking.")] = False,
) -> None:
    """Show this repository's .pool/, or what changed since you trusted it, and ask whether it may have an effect.

    Whatever is trusted, it can never name the model's server, weaken the sandbox or allow anything.
    """
    from poolcli.commands import trust as command

    _exit(command.trust(show=show, revoke=revoke, yes=yes))


@app.command("setup", short_help="Install the project's packages in the sandbox.")
def setup(
    show: Annotated[
        bool, typer.Option("--show", help="Only show what would run, and whether it did.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Run what is shown without asking.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Make it anew, though it is made.")] = False,
    sandbox: Sandbox = None,
    trust_project: TrustProject = False,
) -> None:
    """Install what the lock files name, or a table [setup], so that the checks of runs have it without a network.

    It runs in the sandbox with its package registries in reach, once for each state of the lock files. Your checkout
    is only read; a .venv or node_modules of your own is used in place of what is made here.
    """
    from poolcli.commands import setup as command

    flags = {"sandbox": sandbox, "trust_project": trust_project}
    _exit(command.install(flags, yes=yes, show=show, again=again))


def _rules(
    allow: list[str] | None, ask: list[str] | None, deny: list[str] | None
) -> dict[str, list[str]] | None:
    given = {"allow": allow, "ask": ask, "deny": deny}
    return {verdict: rules for verdict, rules in given.items() if rules} or None


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _only(word: str) -> None:
    """Leave out the commands that were not asked for: the library inspects the signature of each (12 ms)."""
    commands = [command for command in app.registered_commands if command.name == word]
    groups = [group for group in app.registered_groups if group.name == word]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups


def run() -> int:
    """Run the command line of this process; returns the exit code. Errors are one message and a next step."""
    _only(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        code: Any = app(standalone_mode=False, prog_name="pool")
        sys.stdout.flush()
        return int(code or 0)
    except PoolError as error:
        _complain(f"error: {error}", f"  {error.hint}" if error.hint else "")
        return int(error.exit_code)
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as ended:
        # The command line library makes 1 of a broken pipe.
        if isinstance(ended.__context__, BrokenPipeError):
            return _reader_gone()
        raise
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except (typer.Exit, typer.Abort) as ended:
        return int(getattr(ended, "exit_code", Exit.INTERRUPTED))
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line library's own: it has no public base class
            return _misused(error)
        return _internal(error)


def _reader_gone() -> int:
    """The reader of a pipe has gone (`| head`): the exit code of that, and no second error while flushing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + 13


def _misused(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # `pool` alone: the message is the help
        typer.echo(error.format_message())
        return 0
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "pool"
    message, hint = error.format_message(), f"see `{command} --help`"
    if command == "pool do" and "unexpected extra argument" in message:
        hint = 'put the task in quotes: pool do "fix the failing test"'
    _complain(f"error: {message}", f"  {hint}")
    return int(Exit.USAGE)


def _internal(error: Exception) -> int:
    if isinstance(error, OSError):
        _complain(f"error: {error}", "  the work so far is kept; see `pool log`")
        return int(Exit.INTERNAL)
    if os.environ.get("POOL_DEBUG"):
        import traceback

        _complain("".join(traceback.format_exception(error)))
        return int(Exit.INTERNAL)
    _complain(
        f"error: internal error: {type(error).__name__}: {error}",
        "  the work so far is kept; POOL_DEBUG=1 shows where it happened",
    )
    return int(Exit.INTERNAL)


def _complain(*lines: str) -> None:
    from poolcli import redact
    from poolcli.sanitize import clean

    for line in lines:
        if line:
            # Further lines are indented: text of a server or a file must not look like a line of pool's own.
            text = clean(redact.current().text(line)).rstrip("\n").replace("\n", "\n    ")
            sys.stderr.write(text + "\n")
