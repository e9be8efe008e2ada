"""Finding out what a server is and what it does with a model: facts by asking, behaviour by trying.

`ask_facts` is one or two rounds of small questions, at the start of a run. `probe` tries every behaviour as well; it
takes a minute on most servers, and is for `pool models use` and for a server that has changed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from poolcli.errors import ModelError
from poolcli.models import discovery, faults, probes
from poolcli.models.connection import MAX_FACTS, Connection, read
from poolcli.models.discovery import Facts, Question, Server
from poolcli.models.endpoint import Endpoint
from poolcli.models.families import family_of
from poolcli.models.profile import Profile

#: Seconds for one small question.
QUESTION = 5.0
#: Seconds for the first answer of a probed model: a server that loads models on demand reads tens of GB for it.
FIRST_ANSWER = 600.0
#: Seconds for one later request of a probe; 256 tokens at two a second.
ANSWER = 150.0
#: Seconds that a server which is loading its model is waited for before the questions are left unanswered.
LOADING = 60.0
#: Seconds between two questions to a server that is loading.
PAUSE = 0.5

#: The questions that most servers answer; they tell most of them apart.
FIRST_ROUND = ("/v1/models", "/props")

#: Told what is being tried, and then what came of it.
Say = Callable[[str], None]


async def ask_facts(
    connection: Connection,
    model: str = "",
    *,
    server: str = "",
    thorough: bool = False,
    patience: float = LOADING,
) -> Facts:
    """What the server says of itself and of a model ('' takes the first that it lists).

    `server` is the kind that it was last time: then only what that kind answers is asked. `thorough` asks what any
    known kind would answer when it is none of the easy ones. A server that loads its model is waited for `patience`
    seconds. Raises LoadingError when that is not enough, ModelError when nobody answers, the key is wrong, or no
    model is named and none listed; whatever else goes wrong only leaves facts out.
    """
    known = discovery.servers()
    answers = await _patient(connection, _first_questions(known, server), model, patience)
    model = model or _chosen(connection.endpoint, answers)
    kind = discovery.recognise(known, answers, model)
    more: Iterable[Question] = next((s.ask for s in known if s.name == kind), ())
    if not kind and thorough:
        more = {question.path: question for s in known for question in s.ask}.values()
    if missing := [question for question in more if question.path not in answers]:
        answers |= (await _answers(connection, missing, model))[0]
        kind = kind or discovery.recognise(known, answers, model)
    url = connection.endpoint.url
    return discovery.facts(url, model, discovery.server_named(kind) if kind else Server(""), answers)


def _first_questions(known: Iterable[Server], server: str) -> list[Question]:
    asked = [Question(path) for path in FIRST_ROUND]
    for one in known:
        if one.name == server:
            # All that this kind has to say, in one round; `/v1/models` tells whether it is still this kind.
            asked = [Question(FIRST_ROUND[0]), *(q for q in one.ask if q.path != FIRST_ROUND[0])]
    return asked


def _chosen(endpoint: Endpoint, answers: Mapping[str, object]) -> str:
    names = discovery.catalogue(answers.get("/v1/models")).names
    if not names:
        raise ModelError(
            f"{endpoint.url} lists no model", "name one: --model, or `pool models use URL MODEL`"
        )
    return names[0]


async def _patient(
    connection: Connection, asked: Sequence[Question], model: str, patience: float
) -> dict[str, object]:
    """The first answers by path. Raises ModelError when there is none and that has a reason."""
    end = time.monotonic() + patience
    while True:
        found, failures = await _answers(connection, asked, model)
        if found:
            return found
        loading = next((f for f in failures if isinstance(f, faults.LoadingError)), None)
        if loading is None:
            break
        if time.monotonic() >= end:
            raise loading
        await asyncio.sleep(PAUSE)
    for failure in failures:
        if isinstance(failure, faults.UnreachableError) or _about_key(failure):
            raise failure
    if failures and not model:
        raise failures[0]  # nothing can be done without a model's name, and this says why there is none
    return {}


async def _answers(
    connection: Connection, asked: Sequence[Question], model: str
) -> tuple[dict[str, object], list[ModelError]]:
    """The answers by path of those questions that got one, and why the others did not; all are asked at once."""
    came = await asyncio.gather(*(_answer(connection, q, model) for q in asked), return_exceptions=True)
    found: dict[str, object] = {}
    failures: list[ModelError] = []
    for question, outcome in zip(asked, came, strict=True):
        if isinstance(outcome, ModelError):
            failures.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found[question.path] = outcome
    return found, failures


def _about_key(error: ModelError) -> bool:
    return " answered 401" in str(error) or " answered 403" in str(error)


async def _answer(connection: Connection, question: Question, model: str) -> object:
    """The JSON answer to one question. Raises ModelError."""
    endpoint = connection.endpoint
    url = f"{endpoint.url}/models" if question.path == "/v1/models" else endpoint.root + question.path
    body = b""
    if question.body:
        body = json.dumps({k: model if v == "$model" else v for k, v in question.body.items()}).encode()
        if not model:
            raise ModelError(f"{url} asks for a model")
    async with connection.open("POST" if body else "GET", url, body=body, seconds=QUESTION) as response:
        data = await read(response, MAX_FACTS, QUESTION)
    try:
        answer: object = json.loads(data)
    except (ValueError, RecursionError):
        raise ModelError(f"{url} did not answer with JSON") from None
    return answer


def profile_of(facts: Facts, old: Profile | None = None) -> Profile:
    """The profile as far as facts go; what was measured before stays."""
    profile = old or Profile(facts.url, facts.model)
    family = family_of(facts.model)
    return replace(
        profile,
        server=facts.server or profile.server,
        version=facts.version or profile.version,
        identity=facts.identity or profile.identity,
        family=family.name,
        window=facts.window or profile.window,
        largest=facts.largest or profile.largest,
        slots=facts.slots or profile.slots,
    )


def changed(profile: Profile, facts: Facts) -> str:
    """What is another now than when the profile was made, in words; '' when nothing is known to be."""
    if facts.server and profile.server and facts.server != profile.server:
        return f"from {_title(profile)} to {_title(profile_of(facts))}"
    if facts.version and profile.version and facts.version != profile.version:
        return f"from {_title(profile)} to {_title(profile_of(facts))}"
    if facts.identity and profile.identity and facts.identity != profile.identity:
        return f"from the model {_short(profile.identity)} to {_short(facts.identity)}"
    return ""


def _title(profile: Profile) -> str:
    return f"{discovery.server_named(profile.server).title or profile.server} {profile.version}".strip()


def _short(identity: str) -> str:
    return identity.rpartition("/")[2] or identity


async def probe(connection: Connection, model: str = "", *, say: Say | None = None) -> Profile:
    """Measure a model at a server. `say` is told what is being tried and what came of it.

    Raises ModelError when the server cannot be reached, refuses the key, or the model does not answer at all.
    What else goes wrong leaves its facts unknown.
    """
    say = say or (lambda text: None)
    say("what serves it")
    facts = await ask_facts(connection, model, thorough=True)
    server = discovery.server_named(facts.server) if facts.server else Server("")
    say("a first answer")
    bench = probes.Bench(connection, facts, server, FIRST_ANSWER, {})
    await probes.answers(bench)
    if not facts.window:
        # Servers that load on demand know only now.
        facts = bench.facts = await ask_facts(connection, facts.model, server=facts.server)
    bench.seconds = ANSWER
    values: dict[str, Any] = {}
    unknown: list[str] = [] if facts.window else ["window"]
    for title, names, function in probes.PROBES:
        say(title)
        values |= await _tried(function, bench)
        bench.seen |= values
        unknown += [name for name in names if name not in values]
    family = family_of(facts.model)
    if not family.back:
        values["reasoning_back"] = False
    if not values.get("reasoning"):
        unknown = [name for name in unknown if name != "reasoning_back"]
    return replace(profile_of(facts), **values, unknown=tuple(unknown), probed=time.time())


async def _tried(function: Callable[[probes.Bench], Any], bench: probes.Bench) -> dict[str, Any]:
    """The facts that a probe yields; none when it fails. Raises ModelError only when the server is gone."""
    try:
        found: dict[str, Any] = await function(bench)
    except faults.UnreachableError:
        raise
    except (probes.Unknown, ModelError):
        return {}
    return found
