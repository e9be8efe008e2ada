"""What a server's refusals and a network's failures mean: ModelErrors that say what and what to do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from poolcli.errors import ModelError
from poolcli.models.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx

#: Of an error reply, this many bytes are read; proxies answer with whole web pages.
MAX_ERROR_BODY = 64_000
#: Characters of a server's own words that a message repeats.
MAX_QUOTE = 500
#: The longest wait in seconds that we report; some servers ask for years.
MAX_RETRY_AFTER = 86_400.0

DOCTOR = "`pool doctor` checks the endpoint"

#: How a conversation that does not fit is refused: llama.cpp, vLLM, OpenAI, Ollama, LM Studio, SGLang, TGI.
_TOO_LONG = (
    r"exceed_context_size|context_length_exceeded|exceeds? the (available |model'?s? )?(maximum )?context"
    r"|maximum (model |context |model context )length|longer than the model'?s? context"
    r"|(greater|larger|longer) than the (model'?s? )?context|`inputs` tokens \+ `max_new_tokens`"
)
_RETRYABLE = frozenset({408, 409, 425, 429})


class ContextExceededError(ModelError):
    """The messages do not fit into the model's window. `prompt` and `window` are tokens, 0 when not said."""

    context_exceeded = True

    def __init__(self, message: str, hint: str = "", *, prompt: int = 0, window: int = 0) -> None:
        super().__init__(message, hint)
        self.prompt = prompt
        self.window = window


class UnreachableError(ModelError):
    """Nothing answers at the address."""


class NotFoundError(ModelError):
    """The server knows no such path, or no such model."""


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
    if re.search(_TOO_LONG, f"{details.get('type', '')} {details.get('code', '')} {said}", re.IGNORECASE):
        return ContextExceededError(
            f"the conversation is longer than the model's context window: {words}",
            "start the server with a larger context, or give a smaller task",
            prompt=_count(details.get("n_prompt_tokens")),
            window=_count(details.get("n_ctx")),
        )
    message = f"{url} answered {status}: {words}"
    match status:
        case 401 | 403:
            key = endpoint.key_name
            hint = f"is the key in {key} right?" if endpoint.api_key.strip() else f"it wants a key: set {key}"
            return ModelError(message, hint)
        case 404:
            return NotFoundError(message, DOCTOR)
    retryable = status in _RETRYABLE or status >= 500
    return ModelError(message, DOCTOR, retryable=retryable, retry_after=wait)


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
        return ModelError(f"cannot connect to {url}: {words}", hint, retryable=True)
    if isinstance(error, httpx.RemoteProtocolError) and "illegal" in words:
        return ModelError(f"{url} does not speak HTTP: {words}", DOCTOR)
    return ModelError(f"the connection to {url} broke: {words}", DOCTOR, retryable=True)
