"""What crosses the wire: one JSON request to a server, one JSON answer of bounded size within a bounded time.

All that a server can do wrong comes out of here as a `Fault`, which says whose it is. The API key leaves by
the header alone: it is taken out of every text that comes back.
"""

import asyncio
import base64
import json
import math
import os
import re
import time
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from harness import __version__
from harness.errors import UserError
from harness.hostile import one_line

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 64 << 20
"""Of one answer. The longest replies take a few megabytes."""
FIRST_WORDS = 300
"""Characters of what a server said that a failure quotes."""
SCRUBBED_KEY = 8
"""Characters of the shortest key that is looked for in answers. A shorter one is a placeholder, such as
EMPTY, and a word that a model may well write."""


class Blame(StrEnum):
    """Whose fault it is that there is no answer."""

    REQUEST = "request"
    """The server answers, and refuses this request."""
    BUSY = "busy"
    """The server asks to be left alone for a while."""
    SERVER = "server"
    """It does not answer, or says itself that it is broken."""
    REFUSED = "refused"
    """What answers is not for us: the key, the path, a page to log in, another place that it names."""


class Fault(Exception):
    """A request that was not answered."""

    def __init__(
        self, blame: Blame, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        """Args: message: for a person. status: of HTTP. retry_after: seconds that the server asks for."""
        super().__init__(message)
        self.blame = blame
        self.message = message
        self.status = status
        self.retry_after = retry_after


class Wire:
    """A server, by its base URL."""

    def __init__(self, base_url: str, key: str | None, timeout_seconds: float) -> None:
        """Args: key: of the API, None to send none. timeout_seconds: of a whole request."""
        import httpx

        self.base_url = base_url.rstrip("/")
        self._timeout = timeout_seconds
        self._key = _key_pattern(key) if key and len(key) >= SCRUBBED_KEY else None
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": f"openweight-harness/{__version__}",
        }
        self._client = httpx.AsyncClient(
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=timeout_seconds,
            follow_redirects=False,  # another host would be sent every prompt, and its answers scored
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    async def post(self, path: str, body: Any, timeout_seconds: float | None = None) -> Any:
        """The JSON that answers a request to a path below the base URL. Raises Fault."""
        content = msgspec.json.encode(body)
        return await self._request("POST", f"{self.base_url}{path}", content, timeout_seconds)

    async def get(self, path: str) -> Any:
        """The JSON at a path below the base URL, or of the host where the path begins with two slashes.

        Raises:
            Fault: there is none.
        """
        import httpx

        host = path.startswith("//")
        url = str(httpx.URL(self.base_url).copy_with(path=path[1:])) if host else f"{self.base_url}{path}"
        return await self._request("GET", url, None, None)

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.aclose()

    async def _request(self, method: str, url: str, content: bytes | None, limit: float | None) -> Any:
        import httpx

        seconds = min(self._timeout, limit or math.inf)
        try:
            async with asyncio.timeout(seconds), self._client.stream(method, url, content=content) as answer:
                body = await _read(answer)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Fault(Blame.SERVER, f"no whole answer within {seconds:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Fault(Blame.SERVER, self._scrub(_broken(error, url))) from error
        decoded = self._decode(body)
        if not 200 <= answer.status_code < 300:
            raise self._status(answer, decoded, body)
        if decoded is None:
            raise Fault(Blame.REFUSED, f"the answer is not JSON: {self._words(body)}")
        if isinstance(decoded, dict) and decoded.get("error"):
            message = f"the server answers with an error: {_said(decoded) or self._words(body)}"
            code = decoded["error"].get("code") if isinstance(decoded["error"], dict) else None
            known = code if type(code) is int and 400 <= code < 600 else 500
            raise Fault(_blame(known, None), message, status=known)
        return decoded

    def _decode(self, body: bytes) -> Any:
        """The JSON of an answer without the key, None if it is none."""
        try:
            decoded = json.loads(body)
            return self._scrub(decoded)
        except (ValueError, RecursionError):
            return None

    def _status(self, answer: "httpx.Response", decoded: Any, body: bytes) -> Fault:
        status = answer.status_code
        message = _said(decoded) or self._words(body)
        if 300 <= status < 400:
            location = answer.headers.get("location", "nowhere").partition("?")[0]
            message = f"redirect to {self._scrub(one_line(location)[:FIRST_WORDS])}, which is not followed"
        retry_after = _retry_after(answer.headers.get("retry-after"))
        return Fault(
            _blame(status, retry_after), f"status {status}: {message}", status=status, retry_after=retry_after
        )

    def _words(self, body: bytes) -> str:
        """How an answer begins."""
        text = one_line(self._scrub(body[: 8 * FIRST_WORDS].decode("utf8", "replace")))
        return repr(text[:FIRST_WORDS]) if text else "nothing"

    def _scrub(self, value: Any) -> Any:
        """A JSON value without the key in any of its texts."""
        if self._key is None:
            return value
        if isinstance(value, str):
            return self._key.sub("[API key]", value)
        if isinstance(value, dict):
            return {self._scrub(key): self._scrub(item) for key, item in value.items()}
        return [self._scrub(item) for item in value] if isinstance(value, list) else value


async def _read(answer: "httpx.Response") -> bytes:
    parts, size = [], 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > MAX_BYTES:
            raise Fault(Blame.SERVER, f"the answer is longer than {MAX_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _blame(status: int, retry_after: float | None) -> Blame:
    if status in (429, 529) or (status == 503 and retry_after is not None):
        return Blame.BUSY
    if 300 <= status < 400 or status in (401, 402, 403, 404, 405, 407, 410):
        return Blame.REFUSED
    own = 400 <= status < 500 and status not in (408, 409, 425)
    return Blame.REQUEST if own else Blame.SERVER


def _said(decoded: Any) -> str | None:
    """What an error says of itself: `error.message` of OpenAI's, `detail` of FastAPI's, or `message`."""
    if not isinstance(decoded, dict):
        return None
    error = decoded.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    text = next((words for words in (inner, decoded.get("detail"), decoded.get("message")) if words), None)
    if text is None:
        return None
    return one_line(text if isinstance(text, str) else json.dumps(text))[:FIRST_WORDS]


def _retry_after(value: str | None) -> float | None:
    """Seconds from now, of a number or a date; None for neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _broken(error: Exception, url: str) -> str:
    """A lost connection in words, with what is wrong most often."""
    why = one_line(str(error)) or type(error).__name__
    if "WRONG_VERSION_NUMBER" in why.upper() or "record layer failure" in why:
        return f"{why}; if the server speaks plain HTTP, base_url begins with http://"
    if url.startswith("http://") and type(error).__name__ in ("ReadError", "RemoteProtocolError"):
        return f"{why}; if the server speaks TLS, base_url begins with https://"
    return why


def read_key(name: str | None) -> str | None:
    """The API key that an environment variable holds; None for no name.

    Raises:
        UserError: the variable is not set, or holds what no header can carry.
    """
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise UserError(f"api_key_env: the environment variable {name} is not set; set it to the API key")
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"api_key_env: the environment variable {name} holds a line break or a letter that no header "
            "can carry; set it to the API key alone"
        )
    return key


def _key_pattern(key: str) -> re.Pattern[str]:
    """The key as it is, with any of its characters percent-encoded, or inside of base64."""
    letters = "".join(f"(?:{re.escape(c)}|%(?i:{ord(c):02x}))" for c in key)
    return re.compile("|".join([letters, *(re.escape(form) for form in _base64_forms(key.encode()))]))


def _base64_forms(key: bytes) -> set[str]:
    """What base64 of any text with the key in it contains: by where in a group of three bytes it begins."""
    forms = set()
    for before in range(3):
        after = -(before + len(key)) % 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + key + bytes(after)).decode()
            forms.add(text[(0, 2, 3)[before] : len(text) - (0, 2, 3)[after]])
    return forms
