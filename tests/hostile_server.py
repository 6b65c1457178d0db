"""A server that speaks the OpenAI protocol well or in any of many wrong ways, and a suite that asks it."""

import base64
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from harness.engines.base import Engine
from harness.suites.base import Render
from harness.suites.messages import assistant_message
from harness.types import FailureKind, Message, Metric, Sample, Sampling, Score, Struct, Tool, Transcript

KEY = "sk-hostile-+/0123456789"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
SAMPLES = 8
UNIT = (0.0, 1.0)
SEND = Tool(name="send", description="Send all", parameters={"type": "object", "properties": {}})


class Options(Struct):
    """Options of the suite."""

    limit: int | None = None


def build(name: str | None, options: Options) -> list["AskingSuite"]:
    """The suite."""
    return [AskingSuite(name or "asking")]


class AskingSuite:
    """Even samples are conversations with a tool that must not be called, odd ones texts to continue."""

    protocol = {"adapter": "asking"}
    metrics = (
        Metric(name="acc", higher_is_better=True, kind="rate", bounds=UNIT, headline=True),
        Metric(name="called", higher_is_better=False, kind="rate", bounds=UNIT),
    )

    def __init__(self, name: str) -> None:
        self.name = name

    def count(self) -> int:
        return SAMPLES

    def samples(self, model_name: str, render: Render | None) -> list[Sample]:
        return [Sample(id=f"{i}", content_hash=f"{i}", payload=i) for i in range(SAMPLES)]

    async def run(self, sample: Sample, engine: Engine, sampling: Sampling) -> Transcript:
        asked = f"question {sample.payload}"
        if sample.payload % 2:
            return Transcript(generations=(await engine.complete(asked, sampling),))
        question = Message(role="user", content=asked)
        reply = await engine.chat((question,), (SEND,), sampling)
        return Transcript(messages=(question, assistant_message(reply)), generations=(reply,))

    def score(self, sample: Sample, transcript: Transcript) -> tuple[Score, ...]:
        (reply,) = transcript.generations
        called = float(bool(reply.tool_calls))
        return (
            Score(metric="acc", value=float(reply.text == "7"), answer=reply.text),
            Score(metric="called", value=called),
        )


class Server(ThreadingHTTPServer):
    """Misbehaves at the questions that it is told to, as it is told to; behaves at all others."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour: Behaviour | None = None
        self.everywhere = False
        self.headers: list[dict[str, str]] = []
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on a server like this one."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    chat = False

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        known = {"/v1/models": {"data": [{"id": "tiny"}]}, "/version": {"version": "9.9"}}
        self.answer(known.get(self.path, {}), status=200 if self.path in known else 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        self.server.asked += 1
        self.chat = "messages" in body
        asked = body["messages"][-1]["content"] if self.chat else body["prompt"]
        sample = re.fullmatch(r"question (\d+)", asked)
        number = int(sample[1]) if sample else -1
        if self.server.behaviour and (self.server.everywhere or (number % 4 in (0, 1) and number >= 0)):
            self.server.behaviour(self)
        else:
            self.answer(good(self.chat))

    def answer(self, body: Any, *, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(body).encode(), status=status, **{"Content-Type": "application/json", **headers})

    def send(self, raw: bytes, *, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw) if length is None else length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def hang_up(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


Behaviour = Callable[[Handler], None]


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def good(chat: bool, **changes: Any) -> dict[str, Any]:
    """The right answer, with changes of its top level."""
    what = {"message": {"role": "assistant", "content": "7"}} if chat else {"text": "7"}
    body = {
        "id": "1",
        "model": "tiny",
        "usage": USAGE,
        "choices": [{"index": 0, "finish_reason": "stop"} | what],
    }
    return body | changes


def body(**changes: Any) -> Behaviour:
    """The right answer with changes of its top level."""
    return lambda handler: handler.answer(good(handler.chat, **changes))


def usage(value: Any) -> Behaviour:
    """The right answer, which costs something else."""
    return body(usage=value)


def choice(**changes: Any) -> Behaviour:
    """The right answer with changes of its choice."""

    def behave(handler: Handler) -> None:
        answer = good(handler.chat)
        handler.answer(answer | {"choices": [answer["choices"][0] | changes]})

    return behave


def said(content: Any, **message: Any) -> Behaviour:
    """Other words in the right place; `message` holds what else a conversation's message has."""

    def behave(handler: Handler) -> None:
        spoken = {"message": {"role": "assistant", "content": content} | message}
        what = spoken if handler.chat else {"text": content}
        reason = "tool_calls" if handler.chat and message.get("tool_calls") else "stop"
        handler.answer(good(handler.chat, choices=[{"index": 0, "finish_reason": reason} | what]))

    return behave


def calls(*made: Any) -> Behaviour:
    """A conversation's answer with tool calls; texts are continued well."""
    chat = said("7", tool_calls=list(made))
    return lambda handler: chat(handler) if handler.chat else handler.answer(good(False))


def parts(*spoken: Any) -> Behaviour:
    """A conversation's answer in parts; texts are continued well."""
    chat = said(list(spoken))
    return lambda handler: chat(handler) if handler.chat else handler.answer(good(False))


def status(number: int, said_too: Any = None, **headers: str) -> Behaviour:
    """An error."""
    content = {"error": {"message": "this is the reason"}} if said_too is None else said_too
    return lambda handler: handler.answer(content, status=number, **headers)


def raw(content: bytes, **named: Any) -> Behaviour:
    """Bytes in place of the right answer."""
    return lambda handler: handler.send(content, **named)


def wire(content: bytes) -> Behaviour:
    """Bytes in place of an answer of HTTP, then the end."""

    def behave(handler: Handler) -> None:
        handler.wfile.write(content)
        handler.wfile.flush()
        handler.close_connection = True

    return behave


def drip(handler: Handler) -> None:
    """A byte now and then: each read is answered in time, the request never is."""
    handler.send(b"", length=10**6)
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def hang(handler: Handler) -> None:
    """Say nothing."""
    time.sleep(1.0)
    handler.close_connection = True


def echo(make: Callable[[str], str]) -> Behaviour:
    """An error that holds the key in some form."""
    return status(400, {"error": {"message": f"bad key {make(f'Bearer {KEY}')}"}})


def zipped(handler: Handler) -> None:
    """More bytes than anybody has memory for, in few."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(80)) + packer.flush()
    handler.send(packed, Content_Encoding="gzip")


ARGUMENTS = '{"a": 1}'
CALL = {"id": "c", "type": "function", "function": {"name": "send", "arguments": ARGUMENTS}}


def call(**changes: Any) -> dict[str, Any]:
    """The right call with changes."""
    return {key: value for key, value in (CALL | changes).items() if value != "absent"}


def calls_ended(reason: str, *made: Any) -> Behaviour:
    """A conversation's answer with tool calls that gives another reason for its end."""
    return ended(reason, content=None, tool_calls=list(made))


def ended(reason: str, **message: Any) -> Behaviour:
    """A conversation's answer that ended for a reason; texts are continued well."""
    choices = [{"index": 0, "finish_reason": reason, "message": {"role": "assistant"} | message}]
    return lambda handler: handler.answer(
        good(handler.chat, **({"choices": choices} if handler.chat else {}))
    )


def function(**changes: Any) -> dict[str, Any]:
    """The right call with changes of its function."""
    return CALL | {"function": {"name": "send", "arguments": ARGUMENTS} | changes}


def thought(reason: str, key: str = "reasoning_content", content: str | None = "") -> Behaviour:
    """A conversation's answer that is a thought, and what little is said after it."""
    return ended(reason, content=content, **{key: "Is it 7, or is it 8? " * 9})


HUGE = {"prompt_tokens": 2**62, "completion_tokens": 2**62}
READ: dict[str, Behaviour] = {
    "usage absent": usage(None),
    "usage empty": usage({}),
    "usage null counts": usage({"prompt_tokens": None, "completion_tokens": None}),
    "usage of texts": usage({"prompt_tokens": "7", "completion_tokens": "3"}),
    "usage of floats": usage({"prompt_tokens": 7.5, "completion_tokens": 3.0}),
    "usage not a number": usage({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}),
    "usage negative": usage({"prompt_tokens": -(10**6), "completion_tokens": -1}),
    "usage over 64 bits": usage({"prompt_tokens": 2**63, "completion_tokens": 10**40}),
    "usage that wraps": usage(HUGE),
    "usage a list": usage([7, 3]),
    "usage of booleans": usage({"prompt_tokens": True, "completion_tokens": False}),
    "more cached than sent": usage(USAGE | {"prompt_tokens_details": {"cached_tokens": 99}}),
    "details null": usage(
        USAGE | {"prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": None}
    ),
    "ended by its token": choice(finish_reason="eos"),
    "parts of text": parts({"type": "text", "text": ""}, {"type": "text", "text": "7"}),
    "thoughts as a part": parts(
        {"type": "thinking", "thinking": [{"type": "text", "text": "8?"}], "closed": True},
        {"type": "text", "text": "7"},
    ),
    "unknown fields": body(extra={"deep": [1, 2]}, service_tier="x"),
    "byte order mark": lambda handler: handler.send(
        b"\xef\xbb\xbf" + json.dumps(good(handler.chat)).encode()
    ),
    "no content type": lambda handler: handler.send(json.dumps(good(handler.chat)).encode()),
    "another status of success": lambda handler: handler.answer(good(handler.chat), status=201),
}
"""Answers that are read: what is odd about them is no matter."""
CALLED: dict[str, Behaviour] = {
    "a call": calls(call()),
    "a call without type": calls(call(type="absent")),
    "a call whose type is null": calls(call(type=None)),
    "arguments as an object": calls(function(arguments={"a": 1})),
    "arguments empty": calls(function(arguments="")),
    "arguments null": calls(function(arguments=None)),
    "a call without id": calls(call(id="absent")),
    "two calls of one id": calls(call(), call()),
    "two calls of one id with a name": calls(call(id="functions.send:0"), call(id="functions.send:0")),
    "a second call without id": calls(call(), call(id="")),
    "a call that ends in a stop": calls_ended("stop", call()),
    "a call that ends in one of its own": calls_ended("tool_call", call()),
}
"""Calls that are read; texts are continued well."""
UNREAD: dict[str, Behaviour] = {
    "a call of another type": calls(call(type="custom")),
    "a call with the older key": said("7", function_call={"name": "send", "arguments": "{}"}),
    "a call that is announced": choice(finish_reason="tool_calls", text=None),
    "calls that are announced and none": calls_ended("tool_calls"),
    "a call without function": calls(call(function="absent")),
    "a call whose name is a number": calls(function(name=5)),
    "a call whose name is empty": calls(function(name="")),
    "arguments a list": calls(function(arguments=[1])),
    "arguments a number": calls(function(arguments=3)),
    "arguments in text twice": calls(function(arguments=json.dumps(ARGUMENTS))),
    "arguments with a raw line break": calls(function(arguments='{"a": "1\n2"}')),
    "arguments cut off": calls(function(arguments='{"a": ')),
    "arguments with nan": calls(function(arguments='{"a": NaN}')),
    "arguments with infinity": calls(function(arguments='{"a": 1e999}')),
    "a line break in arguments": calls(function(arguments='{"a": "x\ny"}')),
    "control characters in arguments": calls(function(arguments='{"a": "x\x00\x1b\ty"}')),
    "an object with nan": calls(function(arguments={"a": float("nan")})),
    "calls an object": said("7", tool_calls={"0": CALL}),
    "calls numbers": said("7", tool_calls=[1, 2]),
}
"""Calls that cannot be read: a failure of that attempt, where it is a conversation."""
UNANSWERED: dict[str, tuple[Behaviour, FailureKind]] = {
    "all of the budget for the thought": (thought("length"), FailureKind.THOUGHT_CUT),
    "the same under the other key": (thought("length", "reasoning"), FailureKind.THOUGHT_CUT),
    "a thought that ends in nothing": (thought("stop"), FailureKind.EMPTY_ANSWER),
    "the budget ends the answer": (thought("length", content="It is"), FailureKind.TRUNCATED),
}
"""Replies of which a thought is all, or nearly; texts are continued well."""
FAILED: dict[str, Behaviour] = {
    "text a number": said(7),
    "a part that is a picture": said([{"type": "image_url", "image_url": {"url": "x"}}]),
    "parts that are texts": said(["7"]),
    "text an object": said({"text": "7"}),
    "choices empty": body(choices=[]),
    "choices null": body(choices=None),
    "choices an object": body(choices={"0": {}}),
    "two choices": lambda h: h.answer(good(h.chat, choices=good(h.chat)["choices"] * 2)),
    "a choice without words": body(choices=[{"index": 0, "finish_reason": "stop"}]),
    "ended by a filter": choice(finish_reason="content_filter"),
    "no end": choice(finish_reason=None),
    "an empty end": choice(finish_reason=""),
    "an end by the name of null": choice(finish_reason="null"),
    "an end that is a number": choice(finish_reason=5),
    "a list": lambda handler: handler.answer([good(handler.chat)]),
    "a word": lambda handler: handler.answer("7"),
    "null": lambda handler: handler.answer(None),
    "an error with status 200": body(error={"message": "this is the reason", "code": 400}),
    "an error with status 200 as text": body(error="this is the reason"),
    "a page": raw(b"<html><title>Please log in</title></html>"),
    "nothing": raw(b""),
    "broken JSON": raw(b'{"choices": ['),
    "no UTF-8": raw(b'{"choices": [{"text": "\xff\xfe"}]}'),
    "deep JSON": raw(b"[" * 200_000),
    "a long number": raw(b'{"usage": ' + b"9" * 10_000 + b"}"),
    "surrogate in an error": status(400, {"error": {"message": "no \ud800"}}),
    "an error of escapes": status(400, {"error": {"message": "\x1b[2J\x1b]0;title\x07 no"}}),
    "an error of a megabyte": status(400, {"error": {"message": "no " * 300_000}}),
    "an error that is a list": status(422, {"detail": [{"loc": ["body"], "msg": "no"}]}),
    "status 400": status(400),
    "status 418": status(418),
    "too long": status(400, {"error": {"message": "maximum context length is 16 tokens"}}),
    "cut off": lambda handler: handler.send(json.dumps(good(handler.chat)).encode()[:-9], length=999),
    "chunks cut off": wire(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'10\r\n{"choices": [{"t\r\n'
    ),
    "not HTTP": wire(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a length that is none": wire(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "not gzip": raw(b"plainly not", Content_Encoding="gzip"),
    "too many bytes": zipped,
    "the key": echo(str),
    "the key in base64": echo(lambda text: base64.b64encode(text.encode()).decode()),
    "the key for a URL": echo(lambda text: quote(text, safe="")),
}
"""Answers that are none: a failure of that attempt."""
SERVERS: dict[str, Behaviour] = {
    "reset": Handler.hang_up,
    "end of file": wire(b""),
    "hangs": hang,
    "drips": drip,
    "status 500": status(500),
    "status 502, a page": raw(b"<html>Bad Gateway</html>", status=502),
    "status 503": status(503),
    "status 504": status(504),
    "status 408": status(408),
}
"""A server that does not answer: where it answers nobody it is waited for, and no attempt has failed."""
REFUSALS: dict[str, Behaviour] = {
    "status 401": status(401),
    "status 402": status(402),
    "status 403": status(403),
    "status 404": status(404, {"detail": "Not Found"}),
    "redirect": status(307, {}, Location="http://localhost:1/v1/chat/completions?api-key=PASSW0RD"),
    "redirect for good": status(301, {}, Location="/elsewhere"),
    "redirect to nowhere": status(302, {}),
}
"""A server that is not for us."""
BUSY: dict[str, Behaviour] = {
    "status 429": status(429),
    "status 529": status(529),
    "asks for minutes": status(429, Retry_After="300"),
    "asked for a moment that is over": status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "asks for no time that can be read": status(429, Retry_After="soon"),
    "asks for a date": status(503, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT"),
}
"""A server that asks to be left alone."""
