"""Tasks of Inspect's on engines of the harness: the verdicts are those of Inspect's own runner."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.config import ModelSpec
from harness.engines.scripted import Reply, ScriptedEngine
from harness.errors import Absent, AttemptFailure, EngineDead, UserError
from harness.records.directory import RunDirectory
from harness.suites.access import Access
from harness.suites.inspect_ai import InspectSuite, Options, build
from harness.suites.inspect_ai.evaluation import end
from harness.suites.scoring import score
from harness.types import FailureKind, Message, Sampling, Tool, ToolCall

pytest.importorskip("inspect_ai", reason="the extra `inspect` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of inspect_ai's imports


@pytest.fixture(autouse=True)
async def ended() -> AsyncIterator[None]:
    """As a run does when a model's attempts are made."""
    yield
    await end()


TASKS = Path(__file__).parent / "own_tasks.py"
KINDS = (
    "sums",
    "sums_by_pattern",
    "capitals",
    "several_right",
    "repeated",
    "with_a_tool",
    "agent",
    "keys",
    "in_numbers",
    "in_words",
    "asked_twice",
    "thinks",
    "kinds",
)


def suite(name: str, **options: Any) -> InspectSuite:
    return build(None, Options(task=f"{TASKS}@{name}", **options), Access())[0]


def reply_to(
    question: str, tools: list[str], results: int, replies: int
) -> tuple[str, tuple[str, dict[str, Any]] | None]:
    """(text, a tool with its arguments) that a model of uneven skill would reply."""
    if "Norway" in question:
        return "I think so.\n\nANSWER: B", None
    if "France" in question:
        return "ANSWER: B", None
    if "Scandinavia" in question:
        return "ANSWER: A, C", None
    number = int(next(iter(re.findall(r"(\d+) \+", question))))
    if tools and not results:
        return "", ("add", {"x": number, "y": number if number != 1 else 7})
    if "submit" in tools:
        return "", ("submit", {"answer": f"it is {2 * number if number != 1 else 8}"})
    if number == 4:
        return "no idea", None
    return ("ANSWER: " if number % 2 else "") + str(2 * number + (replies if number == 2 else 0)), None


def policy(messages: list[Message], tools: list[Tool], sampling: Sampling) -> Reply:
    question = next(m.content for m in messages if m.role == "user")
    results, replies = (sum(m.role == role for m in messages) for role in ("tool", "assistant"))
    text, call = reply_to(question, [tool.name for tool in tools], results, replies)
    calls = (ToolCall(id=f"call-{replies}", name=call[0], arguments=call[1]),) if call else ()
    return Reply(text=text, tool_calls=calls, reasoning="Hm." if "Think" in messages[0].content else None)


def as_inspect(input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
    """The same replies by Inspect's own scripted provider."""
    from inspect_ai.model import ModelOutput, ModelUsage

    question = next(m.text for m in input if m.role == "user")
    results, replies = (sum(m.role == role for m in input) for role in ("tool", "assistant"))
    text, call = reply_to(question, [tool.name for tool in tools], results, replies)
    made = (
        ModelOutput.for_tool_call("mockllm/model", *call)
        if call
        else ModelOutput.from_content("mockllm/model", text)
    )
    made.usage = ModelUsage(total_tokens=1)  # else Inspect counts, with a tokenizer that it downloads
    return made


async def inspect_says(names: Sequence[str], folder: Path) -> list[dict[str, dict[str, float]]]:
    """For each task sample -> metric -> score, by Inspect's runner and scoring."""
    from inspect_ai import eval_async
    from inspect_ai.log import read_eval_log_async
    from inspect_ai.model import get_model
    from inspect_ai.scorer import value_to_float
    from inspect_ai.util._display import init_display_type

    init_display_type("none")
    tasks = [suite(name)._make() for name in names]
    model = get_model("mockllm/model", custom_outputs=as_inspect, memoize=False)
    logs = await eval_async(tasks, model=model, log_dir=str(folder), ctl_server=False, max_tasks=len(tasks))
    by_name = {log.eval.task.rpartition("/")[2]: log for log in logs}
    told = []
    for name in names:
        # read here: a log that loads its own samples patches asyncio for the whole process
        log = await read_eval_log_async(by_name[name].location)
        assert log.status == "success" and log.samples, log.error
        found: dict[str, dict[str, float]] = {}
        for sample in log.samples:
            for scorer, given in (sample.scores or {}).items():
                values = given.value if isinstance(given.value, dict) else {"": given.value}
                for key, value in values.items():
                    metric = f"{scorer}:{key}" if key else scorer
                    found.setdefault(str(sample.id), {})[metric] = value_to_float()(value)
        told.append(found)
    return told


async def ours(name: str) -> dict[str, dict[str, float | None]]:
    measured, engine = suite(name), ScriptedEngine(chat=policy)
    samples = measured.samples("m", None)
    said = await asyncio.gather(*(measured.run(sample, engine, Sampling()) for sample in samples))
    return {
        sample.id: {s.metric: s.value for s in score(measured, sample, transcript).scores}
        for sample, transcript in zip(samples, said, strict=True)
    }


async def test_verdicts_are_those_of_inspects_own_runner(tmp_path: Path) -> None:
    found = await asyncio.gather(*(ours(name) for name in KINDS))  # in one evaluation, side by side
    await end()
    for name, mine, theirs in zip(KINDS, found, await inspect_says(KINDS, tmp_path), strict=True):
        assert mine == theirs, name
    values = {value for of in found for scores in of.values() for value in scores.values()}
    assert {0.0, 1.0, 0.5, 3.5} <= values


async def test_shuffled_choices_are_scored_where_they_stood() -> None:
    """Of the transcript alone: marks, and positions before the shuffle, are kept with it."""
    measured = suite("capitals", args={"shuffle": True})

    def right(messages: list[Message], tools: list[Tool], sampling: Sampling) -> Reply:
        text = messages[-1].content
        city = "Paris" if "France" in text else "Oslo"
        return Reply(text=f"ANSWER: {next(iter(re.findall(rf'([A-D])[.)] {city}', text)))}")

    samples = measured.samples("m", None)
    for _ in range(4):
        said = await asyncio.gather(
            *(measured.run(s, ScriptedEngine(chat=right), Sampling()) for s in samples)
        )
        assert all(score(measured, s, t).scores[0].value == 1.0 for s, t in zip(samples, said, strict=True))


async def test_thoughts_and_calls_reach_engine_and_transcript_in_our_types() -> None:
    measured, seen = suite("thinks"), []

    def watched(messages: list[Message], tools: list[Tool], sampling: Sampling) -> Reply:
        seen.append((tuple(messages), [t.parameters["required"] for t in tools], sampling.temperature))
        return policy(messages, tools, sampling)

    sample = measured.samples("m", None)[2]
    said = await measured.run(sample, ScriptedEngine(chat=watched), Sampling(temperature=0.3))
    first, second = seen
    assert first[1:] == ([["x", "y"]], 0.7)  # the task's temperature, over the run's
    thought, result = second[0][-2:]
    assert thought.reasoning == "Hm." and thought.tool_calls[0].arguments == {"x": 2, "y": 2}
    assert (result.role, result.content, result.name) == ("tool", "4", "add")
    assert said.messages[: len(second[0])] == second[0] and len(said.generations) == 2


def raising(error: Exception) -> Any:
    def say(messages: list[Message], tools: list[Tool], sampling: Sampling) -> Reply:
        raise error

    return say


async def attempt(name: str, chat: Any, sample: int = 0, **options: Any) -> None:
    measured = suite(name, **options)
    await measured.run(measured.samples("m", None)[sample], ScriptedEngine(chat=chat), Sampling())


async def test_what_breaks_is_a_failure_and_no_score() -> None:
    overflow = AttemptFailure(FailureKind.CONTEXT_OVERFLOW, "too long")
    broken = Reply(text="<tool_call>{", parse_error="no JSON")
    cut = Reply(reasoning="Let me", finish_reason="length")
    forever = Reply(tool_calls=(ToolCall(id="1", name="add", arguments={"x": 1, "y": 1}),))
    cases: list[tuple[str, Any, int, FailureKind]] = [
        ("sums", raising(overflow), 0, FailureKind.CONTEXT_OVERFLOW),
        ("swallows", raising(overflow), 0, FailureKind.CONTEXT_OVERFLOW),  # the solver went on all the same
        ("with_a_tool", lambda *_: broken, 0, FailureKind.TOOL_PARSE),
        ("sums", lambda *_: cut, 0, FailureKind.THOUGHT_CUT),
        ("raises", policy, 0, FailureKind.TOOL_ERROR),
        ("agent", lambda *_: forever, 0, FailureKind.ITERATION_CAP),
    ]
    results = await asyncio.gather(
        *(attempt(name, chat, number) for name, chat, number, _ in cases), return_exceptions=True
    )
    for (name, _, _, kind), failure in zip(cases, results, strict=True):
        assert isinstance(failure, AttemptFailure) and failure.kind is kind, (name, failure)
    with pytest.raises(EngineDead):
        await attempt("sums", raising(EngineDead("gone")))
    with pytest.raises(UserError, match="asks for tool_choice"):
        await attempt("forced", policy)


async def test_a_score_that_is_no_number_is_no_zero() -> None:
    measured = suite("in_words")
    sample = measured.samples("m", None)[0]
    said = await measured.run(sample, ScriptedEngine(chat=policy), Sampling())
    unknown = suite("in_words", args={"word": "splendid"})
    with pytest.raises(AttemptFailure, match="in_word is 'splendid': say what that counts"):
        score(unknown, sample, said)
    told = suite("in_words", args={"word": "splendid"}, values={"splendid": 0.25})
    assert score(told, sample, said).scores[0].value == 0.25
    nothing = suite("in_words", args={"word": "nan"})
    assert score(nothing, sample, said).scores[0].value is None


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("on_the_host", "which is this machine itself"),
        ("in_docker", r"needs the sandbox docker.*harness replay LOG.eval"),
        ("pictures", "takes? text alone"),
        ("unscored", "has no scorer"),
        ("not_there", "cannot be loaded"),
        ("add", "cannot be made|made a"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_run(task: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        suite(task)


@pytest.mark.parametrize("model", [None, "openai/gpt-4o", "of answers"])
def test_a_scorer_that_asks_a_model_is_refused_before_a_run(
    model: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key, by which it could be asked")
    with pytest.raises(UserError, match=r"asks a model of its own.*`grader`"):
        suite("graded_by_its_own", args={"model": model}).check()
    suite("scored_by_what_was_left").check()  # what it looks for is not there yet: that tells nothing
    suite("keys").check()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("another model", "asks a model of its own"),
        ("programs", "has no sandbox here"),
        ("without end", None),
    ],
)
def test_what_a_solver_lacks_is_said_before_a_run(
    how: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key, by which it could be asked")
    if said is None:
        suite("needs", args={"how": how}).check()  # it is not asked for ever
        return
    with pytest.raises(
        UserError, match=f"needs cannot be run here: its solver.*{said}.*harness replay LOG.eval"
    ):
        suite("needs", args={"how": how}).check()


@pytest.mark.parametrize(
    ("how", "absent"),
    [("file", True), ("offline", True), ("again", True), ("waiting", True), ("broken", False)],
)
def test_data_that_are_not_here_are_told_from_a_task_that_cannot_be_made(
    how: str, absent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, also of a task that would wait before it asks again."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(UserError, match="without_data") as caught:
        build(None, Options(task=f"{TASKS}@without_data", args={"how": how}), Access(download=False))
    assert isinstance(caught.value, Absent) == absent and not slept
    assert how != "waiting" or "no route" in str(caught.value)


def test_samples_are_the_same_each_time_or_refused() -> None:
    for by in ("Inspect", "random", "numpy"):  # without a seed
        state = random.getstate()
        one, other = (
            [s.payload.id for s in suite("drawn", args={"by": by}).samples("m", None)] for _ in "ab"
        )
        assert one == other != [s.payload.id for s in suite("sums").samples("m", None)]
        assert random.getstate() == state
    with pytest.raises(UserError, match="other samples each time"):
        for _ in range(8):  # a shuffle may come out as it was
            suite("drawn", args={"by": "the machine"}).check()


def test_epochs_are_attempts_and_what_is_no_mean_is_said() -> None:
    repeated = suite("repeated")
    assert repeated.attempts(1, Sampling()) == 3 and repeated.attempts(5, Sampling()) == 5
    (caution,) = repeated.cautions(None)  # type: ignore[arg-type]  # it does not look at the run
    assert "mode" in caution.text
    with pytest.raises(UserError, match=r"gives scores by keys that it does not name"):
        _ = suite("any_keys").metrics
    assert [m.name for m in suite("any_keys", keys={"by_any_key": ("a", "b")}).metrics] == [
        "by_any_key:a",
        "by_any_key:b",
    ]


CONFIG = """\
name: inspect
models:
  - {{name: one, path: "harness:models/planted/aster-dense", origin: {{developer: A, country: XA}}}}
suites:
  - {{adapter: inspect, task: ./tasks.py@sums{more}}}
  - {{adapter: inspect, task: ./tasks.py@repeated}}
sampling: {{temperature: 0.0}}
engine: {{kind: "tests.suites.inspect_ai.test_inspect_tasks:start"}}
"""


async def start(model: ModelSpec, args: dict[str, Any]) -> ScriptedEngine:
    """For `engine.kind`."""
    return ScriptedEngine(chat=policy)


def logged(folder: Path) -> Counter[str]:
    """Task -> samples in Inspect's own logs."""
    from inspect_ai.log import read_eval_log

    found: Counter[str] = Counter()
    for path in folder.glob("*.eval"):
        log = read_eval_log(str(path))
        assert log.status == "success" and log.results and not log.results.scores
        found[log.eval.task] += len(log.samples or ())
    return found


def test_a_run_is_resumed_scored_again_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tasks.py").write_text(TASKS.read_text())
    config, out = tmp_path / "run.yaml", tmp_path / "out"
    config.write_text(CONFIG.format(more=", limit: 4"))
    assert main(["run", str(config), "--out", str(out)]) == 0
    config.write_text(CONFIG.format(more=""))
    assert main(["run", str(config), "--out", str(out)]) == 0
    directory = RunDirectory(out)
    records = {c.suite: list(directory.records(c)) for c in directory.manifest().cells.values()}
    assert {name: len(found) for name, found in records.items()} == {"sums": 6, "repeated": 6}
    assert {r.sample for r in records["sums"]} == {f"sum-{i}" for i in range(6)}
    (card,) = json.loads((out / "scorecard.json").read_text())["models"]
    assert card["metrics"]["sums/match"]["value"] == pytest.approx(5 / 6)
    assert card["metrics"]["repeated/match"]["n"] == 6
    assert logged(out / "logs") == Counter(sums=4 + 6, repeated=6)  # with the limit it was another cell
    assert main(["verify", str(out)]) == 0
    capsys.readouterr()
    assert main(["replay", str(out)]) != 0  # a run directory brings no code
    assert "--trust-code" in "".join(capsys.readouterr())
    assert main(["replay", str(out), "--trust-code", str(tmp_path)]) == 0
    assert main(["show", str(out), "--pair", "sums/sum-1", "--trust-code", str(tmp_path)]) == 0
    assert "What is 1 + 1?" in capsys.readouterr().out
