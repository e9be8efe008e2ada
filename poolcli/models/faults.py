"""What a server's refusals and a network's failures mean: ModelErrors that say what and what to do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from poolcli.errors import ModelError
from poolcli.models import overflow
from poolcli.models.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx

#: Of an error reply, this many bytes are read; proxies answer with whole web pages.
MAX_ERROR_BODY = 64_000
#: Characters of a server's own words that a message repeats.
MAX_QUOTE = 500
#: Characters of them in which a meaning is sought: templates report errors with pages of their source.
MAX_SEARCHED = 8_000
#: The longest wait in seconds that we report; some servers ask for years.
MAX_RETRY_AFTER = 86_400.0

DOCTOR = "`pool doctor` checks the endpoint"

_RETRYABLE = frozenset({408, 409, 425, 429})


class ContextExceededError(ModelError):
    """The messages do not fit into the model's window. `prompt` and `window` are tokens, 0 when not said."""

    context_exceeded = True

    def __init__(self, message: str, hint: str = "", *, prompt: int = 0, window: int = 0) -> None:
        super().__init__(message, hint)
        self.prompt = prompt
        self.window = window


class LoadingError(ModelError):
    """The server is up and still loads its model. Always retryable, and no failure: it takes minutes."""


class StalledError(ModelError):
    """Nothing came for longer than the server can need, and nothing shows that it still works. Retryable."""


class ToolsUnsupportedError(ModelError):
    """The server, or the model's template, takes no tools. Sending the same again is of no use."""


class ConstraintUnsupportedError(ModelError):
    """The server cannot constrain a reply to the JSON schema or the grammar that it was sent."""


class TemplateError(ModelError):
    """The model's chat template refuses the conversation's roles or their order."""


class UnparsedCallError(ModelError):
    """The server could not read the model's own new reply. Another sample may be readable: retryable."""


class RefusedArgumentsError(ModelError):
    """The server cannot read the arguments of an earlier call that it was sent back."""


class UnreachableError(ModelError):
    """Nothing answers at the address."""


class NotFoundError(ModelError):
    """The server knows no such path, or no such model."""


#: What servers say, the error that it is and what to do about it; the first row that matches counts. Sought, in any
#: case, in the type, the code and the message of an error reply. A row for one more server is all that it takes.
MEANINGS: tuple[tuple[str, type[ModelError], str], ...] = (
    (  # llama.cpp, Ollama; first, for it quotes what the model wrote
        r"output that does not match the expected|failed to parse (input at pos|messages? from the model)"
        r"|failed to parse (the )?(model'?s? )?(tool call(?! argum)|output|response)|error parsing tool call"
        r"|xml syntax error on line",
        UnparsedCallError,
        "another model, or a newer server, may write calls that it can read",
    ),
    (  # llama.cpp: what it was sent, not what its model wrote now
        r"failed to parse tool call arguments",
        RefusedArgumentsError,
        "start a new run; `pool doctor` checks the endpoint",
    ),
    (  # every server: models/overflow.py
        overflow.REFUSED,
        ContextExceededError,
        "start the server with a larger context, or give a smaller task",
    ),
    (  # Ollama, LM Studio; vLLM; llama.cpp; others
        r"do(es)?( not|n'?t) support (tool|function)|enable-auto-tool-choice|tool-call-parser"
        r"|tools? (param\w* )?requires? --jinja"
        r"|(tools?|tool_choice|tool (use|calls?|calling)|function calling)['\"`]? (is|are) not (supported|enabled)",
        ToolsUnsupportedError,
        "start the server with its tool calls enabled, or choose a model that was made for them",
    ),
    (  # llama.cpp; vLLM with xgrammar, outlines or guidance; Ollama; LM Studio; SGLang
        r"pars\w* grammar|grammar (error|constraint|backend)|(invalid|unsupported) grammar"
        r"|json[ _]schema (conversion|error|and grammar)"
        r"|(response_format|json_schema|grammar|structured outputs?)['\"`.\w]*"
        r" (must be|is not|are not|not) (supported|'?json|'?text)|features not supported by|unsupported json schema"
        r"|invalid (json )?schema|unrecognized schema|guided_(json|grammar|decoding)|\"json_schema\" or \"grammar\"",
        ConstraintUnsupportedError,
        "the server constrains no replies like this",
    ),
    (  # what chat templates raise, and how servers wrap it
        r"roles? must alternate|system (role|message)s? (is |are )?(not supported|must be (at|the))"
        r"|no user query found|only (system, )?user,? (and )?\w* ?\w* ?roles (are|is) supported"
        r"|jinja (exception|template)|raise_exception|unexpected message role|unknown role"
        r"|(must provide a|no) chat template|chat template is not|assistant messages? at the end of the list",
        TemplateError,
        "start the server with another chat template; `pool doctor` checks the endpoint",
    ),
)
#: How a server says that its model is still being loaded: llama.cpp, Ollama, SGLang, TGI and proxies before them.
_LOADING = (
    r"unavailable_error|\bload(ing|s) (the |its |a )?model|model \S* ?is (still |currently )?(being )?load"
)
_STARTING = r"(still|currently|is) (starting|loading|warming)"
#: The same words in a report that it failed.
_NOT_LOADED = r"(fail|error|unable|cannot|can't|could not|couldn't)\w* (to )?load"


def quote(text: str, secret: str = "") -> str:
    """A server's words, fit for one line of ours: short, printable, without the key if it repeats it."""
    if secret:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= MAX_QUOTE else text[:MAX_QUOTE] + "…"


def explanation(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """The message in an error reply and the object it stood in; ('', {}) when there is none."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return "", {}
    if not isinstance(data, dict):
        return "", {}
    error = data.get("error", data)
    if isinstance(error, str):
        return error, data
    if not isinstance(error, dict):
        return "", data
    said = error.get("message") or error.get("detail") or ""
    return (said if isinstance(said, str) else json.dumps(said)), error


def in_reply(error: object, endpoint: Endpoint, url: str) -> ModelError:
    """The fault that a server reports inside a stream that began well."""
    said, details = explanation(json.dumps({"error": error}).encode())
    code = details.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return refusal(status, said or "no reason given", details, endpoint, url)


def refusal(
    status: int, said: str, details: Mapping[str, Any], endpoint: Endpoint, url: str, wait: float = 0.0
) -> ModelError:
    """The fault behind an HTTP status of 400 or more; `wait` is its Retry-After in seconds."""
    words = quote(said, endpoint.api_key.strip()) or "no reason given"
    known = f"{details.get('type', '')} {details.get('code', '')} {said[:MAX_SEARCHED]}"
    message = f"{url} answered {status}: {words}"
    if status in (401, 403):
        key = endpoint.key_name
        hint = f"is the key in {key} right?" if endpoint.api_key.strip() else f"it wants a key: set {key}"
        return ModelError(message, hint)
    if status >= 500 and _is_loading(status, known):
        return LoadingError(f"{url} is loading its model", DOCTOR, retryable=True, retry_after=wait)
    for pattern, error, hint in MEANINGS:
        if re.search(pattern, known, re.IGNORECASE):
            return _meant(error, message, words, hint, details, wait, said[:MAX_SEARCHED])
    if status == 404:
        return NotFoundError(message, DOCTOR)
    retryable = status in _RETRYABLE or status >= 500
    return ModelError(message, DOCTOR, retryable=retryable, retry_after=wait)


def _is_loading(status: int, said: str) -> bool:
    # LM Studio refuses a long conversation with "the model is loaded with context length of only …".
    if re.search(_NOT_LOADED, said, re.IGNORECASE) or overflow.refused(said):
        return False
    pattern = f"{_LOADING}|{_STARTING}" if status == 503 else _LOADING
    return re.search(pattern, said, re.IGNORECASE) is not None


def _meant(
    error: type[ModelError],
    message: str,
    words: str,
    hint: str,
    details: Mapping[str, Any],
    wait: float,
    said: str,
) -> ModelError:
    if error is ContextExceededError:
        prompt, window = overflow.sizes(said)
        return ContextExceededError(
            f"the conversation is longer than the model's context window: {words}",
            hint,
            prompt=_count(details.get("n_prompt_tokens")) or prompt,
            window=_count(details.get("n_ctx")) or window,
        )
    return error(message, hint, retryable=error is UnparsedCallError, retry_after=wait)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def retry_after(value: str) -> float:
    """Seconds behind a Retry-After header (a number or a date); 0 for none and for nonsense."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else 0.0


def _until(date: str) -> float:
    import time
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def network(error: httpx.HTTPError, url: str) -> ModelError:
    """The fault behind a connection that failed before or while a reply came."""
    import ssl

    import httpx  # loaded already, or there would be no such error

    cause = error.__cause__
    words = quote(str(error)) or type(error).__name__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ModelError(
            f"{url} has a certificate that is not trusted: {quote(cause.verify_message)}",
            "name your authority's certificates in SSL_CERT_FILE",
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        hint = f"is the server running? {DOCTOR}"
        return UnreachableError(f"cannot connect to {url}: {words}", hint, retryable=True)
    if isinstance(error, httpx.RemoteProtocolError) and "illegal" in words:
        return ModelError(f"{url} does not speak HTTP: {words}", DOCTOR)
    return ModelError(f"the connection to {url} broke: {words}", DOCTOR, retryable=True)
