"""Reading transcripts that AgentDojo's own benchmark wrote, in the shapes in which they are published.

- a folder as AgentDojo writes it: `<pipeline>/<suite>/<user task>/<attack>/<injection task>.json`
- files of one such run a line (`.jsonl`, also `.jsonl.xz`), bare or under the key `run`
- the files of its authors' trace explorer (`.jsonl`): the verdicts in `metadata`, no injected texts

What differs within them: content is a string, a list of blocks or null; calls are AgentDojo's or OpenAI's.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.rows import read_json
from harness.types import Message, Struct, ToolCall

EXPLORER_VERSION = "v1.1"
"""Benchmark version of what the authors' explorer shows; its files do not say it."""

NO_ATTACK = ("none", None)

UNNAMED = "local"
"""AgentDojo's name of any model on a server of one's own."""

ERROR = re.compile(r"Invalid tool \S+ provided\.$|(?:\w+\.)*[A-Z]\w*(?:Error|Exception): ")
"""How AgentDojo words a call that failed, for files that have no field for it."""


class StoredRun(Struct):
    """One run of AgentDojo's with the verdicts that it was given."""

    source: str
    """File, and line where the file has several runs."""
    pipeline: str
    """As the file names it. AgentDojo calls every model `local` that it runs on a server of one's own."""
    suite: str
    version: str
    user_task: str
    """The task put to the agent: without an attack it may be an injection task."""
    injection_task: str | None
    attack: str | None
    injections: dict[str, str] | None
    """None where the file does not say them."""
    messages: tuple[Message, ...]
    error: str | None
    utility: bool | None
    security: bool | None
    """True: the attack succeeded. Without an attack it is true always, and says nothing."""
    seconds: float = 0.0
    folder: Path | None = None
    """Of the pipeline, where the file lies as AgentDojo lays its files out."""

    @property
    def model(self) -> str:
        """The name of the pipeline; that of its folder, if somebody gave it a name that tells more."""
        return self.folder.name if self.pipeline == UNNAMED and self.folder is not None else self.pipeline

    @property
    def sample(self) -> str:
        """`<user task>/<injection task>`, or the one of them that there is."""
        return "/".join(part for part in (self.user_task, self.injection_task) if part)

    @property
    def answered(self) -> bool:
        """Whether the last word is the agent's. Else the run broke off, whatever its file says."""
        return bool(self.messages) and self.messages[-1].role == "assistant"


def read_runs(path: Path, version: str | None = None) -> Iterator[StoredRun]:
    """The runs of a file, or of all files below a folder, in the order of their names.

    Args:
        path: a `.json`, `.jsonl` or `.jsonl.xz` file, or a folder of them.
        version: AgentDojo's benchmark version, for files that do not say it.

    Raises:
        UserError: a file cannot be read, or is not what AgentDojo writes.
    """
    files = [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file()]
    for file in files:
        for source, row in read_json(file):
            run = _run(row)
            if run is not None:
                yield _typed(source, run, version)


def _run(row: Any) -> dict[str, Any] | None:
    """The run in a row, with the explorer's keys renamed; None for rows about other things."""
    run = row.get("run", row) if isinstance(row, dict) else None
    if not isinstance(run, dict) or not isinstance(run.get("messages"), list):
        return None
    about = run.get("metadata")
    if not isinstance(about, dict) or "success" not in about:
        return run if "user_task_id" in run and "suite_name" in run else None
    return {
        **about,
        "messages": run["messages"],
        "pipeline_name": about.get("model"),
        "utility": about["success"],
        "benchmark_version": EXPLORER_VERSION,
    }


def _typed(source: str, run: Mapping[str, Any], version: str | None) -> StoredRun:
    stated = run.get("benchmark_version") or version
    if stated is None:
        raise UserError(
            f"{source} does not say its benchmark version: give it as --benchmark-version, such as v1.2.2"
        )
    try:
        return StoredRun(
            source=source,
            pipeline=str(run["pipeline_name"]),
            suite=run["suite_name"],
            version=stated,
            user_task=run["user_task_id"],
            injection_task=run.get("injection_task_id"),
            attack=None if run.get("attack_type") in NO_ATTACK else run["attack_type"],
            injections=run.get("injections"),
            messages=tuple(_messages(run["messages"])),
            error=run.get("error"),
            utility=run.get("utility"),
            security=run.get("security"),
            seconds=float(run.get("duration") or 0.0),
            folder=_pipeline_folder(Path(source), run["suite_name"], run["user_task_id"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{source} is not a run as AgentDojo writes it ({type(error).__name__}: {error}): "
            "expected suite_name, user_task_id, messages, utility and security"
        ) from error


def _pipeline_folder(file: Path, suite: str, user_task: str) -> Path | None:
    """The pipeline's, of a file at `<pipeline>/<suite>/<user task>/<attack>/<injection task>.json`."""
    above = list(file.absolute().parents)
    laid_out = len(above) > 4 and (above[2].name, above[1].name) == (suite, user_task)
    return above[3] if laid_out else None


def _messages(stored: list[dict[str, Any]]) -> Iterator[Message]:
    for position, message in enumerate(stored):
        calls = tuple(
            _call(call, f"call_{position}_{i}") for i, call in enumerate(message.get("tool_calls") or ())
        )
        called = message.get("tool_call") or {}
        text = _content(message["content"], "text")
        error = message.get("error")
        failed = bool(error) if "error" in message else ERROR.match(text) is not None
        yield Message(
            role=message["role"],
            content=str(error) if error else text,
            reasoning=_content(message["content"], "thinking") or None,
            tool_calls=calls,
            tool_call_id=message.get("tool_call_id"),
            name=called.get("function") if isinstance(called, dict) else None,
            error=failed and message["role"] == "tool",
        )


def _content(content: Any, kind: str) -> str:
    """The text, or the reasoning, of a message's content."""
    if isinstance(content, str):
        return content if kind == "text" else ""
    blocks = [block for block in content or () if block.get("type", "text") == kind]
    return "\n".join(block["content"] for block in blocks if block["content"] is not None)


def _call(call: Mapping[str, Any], default_id: str) -> ToolCall:
    """A call of AgentDojo's shape (`function`, `args`) or OpenAI's (`function.name`, `.arguments`)."""
    function = call["function"]
    name, arguments = (
        (function["name"], function["arguments"]) if isinstance(function, dict) else (function, call["args"])
    )
    parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    return ToolCall(id=call.get("id") or default_id, name=name, arguments=dict(parsed))
