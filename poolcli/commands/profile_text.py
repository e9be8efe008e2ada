"""A profile in words: what is known of a model, a line for each subject, and what its user could do about it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from poolcli.models.discovery import server_named
from poolcli.models.families import family_of, sampling
from poolcli.models.profile import Profile

#: Below this many tokens the prompt, the tools and one file hardly fit.
SMALL_WINDOW = 8192

RUNGS = {
    "native": "by the server, streamed",
    "whole": "by the server, in whole replies (streamed ones lose calls)",
    "schema": "held to a JSON schema (the server's own do not work)",
    "text": "written as text (the server's own do not work)",
    "shell": "one block of shell commands a reply (nothing else works)",
}


class Line(Struct, frozen=True):
    """One subject: what is so, and in `advice` what could be better and how, '' when all is well."""

    name: str
    text: str
    advice: str = ""


def lines(profile: Profile) -> list[Line]:
    """The whole profile. Of one that was not measured, what the server says of itself."""
    found = [_server(profile), _model(profile), _context(profile)]
    if profile.probed:
        found += [_calls(profile), *_reasoning(profile), _replies(profile), _cache(profile), _speed(profile)]
    return [*found, *_sampling(profile)]


def learnt(profile: Profile) -> list[Line]:
    """What runs have found out about a model that pool serves itself; nobody measured it on purpose."""
    return [_calls(profile), _speed(profile)]


def number(count: float) -> str:
    """A number as people read it."""
    return f"{count:,.0f}" if count >= 10 else f"{count:g}"


def _server(profile: Profile) -> Line:
    title = server_named(profile.server).title or "unknown"
    return Line("server", f"{title} {profile.version}".strip() + f" at {profile.url}")


def _model(profile: Profile) -> Line:
    return Line("model", profile.model + (f" (family {profile.family})" if profile.family else ""))


def _context(profile: Profile) -> Line:
    server, window = server_named(profile.server), profile.window
    larger = server.context or "start the server with a larger context"
    if not window:
        fix = f"a server may cut a longer prompt silently; {larger}"
        return Line("context", "the server does not say how large its context is", fix)
    text = f"{number(window)} tokens"
    if profile.largest > window:
        text += f" of the {number(profile.largest)} that the model was made for"
    if profile.slots > 1:
        text += f", in each of {profile.slots} slots"
    return Line("context", text, f"small for real work: {larger}" if window < SMALL_WINDOW else "")


def _calls(profile: Profile) -> Line:
    server = server_named(profile.server)
    if "rung" in profile.unknown:
        fix = "if that goes on in a run, take a model that was made for tools"
        return Line("tool calls", "none came when the model was asked for one", fix)
    text = RUNGS.get(profile.rung, profile.rung)
    if profile.probed and profile.rung in ("native", "whole") and "parallel" not in profile.unknown:
        text += ", several at once" if profile.parallel else ", one at a time"
    return Line("tool calls", text, "" if profile.rung == "native" else server.tools)


def _reasoning(profile: Profile) -> list[Line]:
    if not profile.reasoning:
        return []
    back = "sent back" if profile.reasoning_back else "not sent back (the server refuses it)"
    return [Line("reasoning", f"in `{profile.reasoning}`, {back}")]


def _replies(profile: Profile) -> Line:
    held = [word for word, able in (("JSON schemas", profile.schema), ("grammars", profile.grammar)) if able]
    text = " and ".join(held) or "neither JSON schemas nor grammars"
    if not held and {"schema", "grammar"} & set(profile.unknown):
        text = "could not be measured"
    roles = [name for name, ok in (("system", profile.system_role), ("tool", profile.tool_role)) if not ok]
    if roles:
        text += f"; its template takes no {' and no '.join(roles)} message (put into the user's)"
    return Line("held to", text)


def _cache(profile: Profile) -> Line:
    server = server_named(profile.server)
    if "cache_report" in profile.unknown:
        return Line("cache", "could not be measured", "`pool doctor --probe` tries again")
    if not profile.cache_report:
        return Line("cache", "no prefix cache is reported", server.caching or "see how the server is told to")
    text = "reported"
    text += ", kept in pinned slots" if profile.pinning else ""
    text += ", progress of prefills shown" if profile.progress else ""
    lost = profile.slots > 1 and server.pin and not profile.pinning and "pinning" not in profile.unknown
    return Line("cache", text, server.shared if lost else "")


def _speed(profile: Profile) -> Line:
    said = [
        f"{verb} {number(speed)} tokens/s"
        for verb, speed in (("reads", profile.prefill), ("writes", profile.decode))
        if speed
    ]
    counted = "; the server counts tokens" if profile.tokenize else ""
    day = datetime.fromtimestamp(profile.probed).astimezone().strftime(" (measured %Y-%m-%d)")
    return Line("speed", (", ".join(said) or "not measured") + counted + (day if profile.probed else ""))


def _sampling(profile: Profile) -> list[Line]:
    family = family_of(profile.model)
    chosen = sampling(family, server_named(profile.server))
    if not chosen:
        return []
    said = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    return [Line("sampling", f"{said} (family {family.name})")]
