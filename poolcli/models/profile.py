"""What is known of a model at a server: measured by probing, kept between runs, corrected on evidence."""

from __future__ import annotations

from msgspec import Struct


class Profile(Struct, frozen=True):
    """One model at one server. What was not found out has the default, which is what most servers do."""

    url: str
    model: str
    #: Which program serves it (a name of models/servers.toml) and its version; '' when it does not say.
    server: str = ""
    version: str = ""
    #: What tells this model from another one that the server may have under the same name (a path, a date).
    identity: str = ""
    #: A family of models/families.toml, '' for an unknown one.
    family: str = ""
    #: Tokens of context that one conversation really has; 0 when unknown.
    window: int = 0
    #: Tokens of context that the model was made for, where the server says it.
    largest: int = 0
    #: Conversations that the server works on at once; 0 when unknown.
    slots: int = 0
    #: The rung of the ladder (`dialects.base.RUNGS`) on which calls arrive reliably.
    rung: str = "native"
    #: Whether several calls in one reply arrive.
    parallel: bool = True
    #: The field that reasoning comes in, '' for none; whether the server wants it sent back.
    reasoning: str = ""
    reasoning_back: bool = True
    #: What can constrain a reply.
    schema: bool = False
    grammar: bool = False
    #: Roles that the chat template accepts beside user and assistant.
    system_role: bool = True
    tool_role: bool = True
    #: Whether `/tokenize` answers: '' or the dialect it speaks, "llama.cpp" or "vllm".
    tokenize: str = ""
    #: Whether replies tell how much of the prompt was cached, and whether progress of a prefill is streamed.
    cache_report: bool = False
    progress: bool = False
    #: Whether a conversation pinned to a slot (`id_slot`) finds its cache again.
    pinning: bool = False
    #: Tokens per second of reading a prompt and of writing a reply; 0.0 when not measured.
    prefill: float = 0.0
    decode: float = 0.0
    #: Names of what the probe could not find out: the fields there are only what most servers do.
    unknown: tuple[str, ...] = ()
    #: Wall time of the probe in seconds since the epoch; 0.0 for a profile that nobody measured.
    probed: float = 0.0
