"""Tasks of several kinds, written with Inspect's own parts."""

import random
import time
from enum import Enum, auto
from typing import Any

import numpy as np
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, get_model
from inspect_ai.scorer import (
    Score,
    accuracy,
    choice,
    exact,
    f1,
    includes,
    match,
    mean,
    model_graded_fact,
    model_graded_qa,
    pattern,
    scorer,
    stderr,
)
from inspect_ai.solver import (
    Generate,
    Solver,
    TaskState,
    basic_agent,
    chain_of_thought,
    generate,
    multiple_choice,
    solver,
    system_message,
    use_tools,
)
from inspect_ai.tool import Tool, tool
from inspect_ai.util import sandbox

SUMS = [Sample(input=f"What is {i} + {i}?", target=str(2 * i), id=f"sum-{i}") for i in range(6)]
CAPITALS = [
    Sample(input="Capital of France?", choices=["Rome", "Paris", "Oslo", "Bern"], target="B"),
    Sample(input="Capital of Norway?", choices=["Rome", "Paris", "Oslo", "Bern"], target="C"),
    Sample(input="In Scandinavia?", choices=["Oslo", "Paris", "Malmo", "Bern"], target=["A", "C"]),
]


@task
def sums() -> Task:
    return Task(
        dataset=MemoryDataset(SUMS),
        solver=[system_message("Answer with a number."), generate()],
        scorer=[match(), includes(), exact(), f1()],
    )


@task
def sums_by_pattern() -> Task:
    return Task(
        dataset=MemoryDataset(SUMS),
        solver=[chain_of_thought(), generate()],
        scorer=pattern(r"ANSWER:\s*(\d+)"),
    )


@task
def capitals(shuffle: bool = False) -> Task:
    return Task(dataset=MemoryDataset(CAPITALS[:2]), solver=multiple_choice(shuffle=shuffle), scorer=choice())


@task
def several_right() -> Task:
    return Task(
        dataset=MemoryDataset(CAPITALS[2:]), solver=multiple_choice(multiple_correct=True), scorer=choice()
    )


@task
def repeated() -> Task:
    return Task(dataset=MemoryDataset(SUMS[:2]), solver=generate(), scorer=match(), epochs=Epochs(3, "mode"))


@tool
def add() -> Tool:
    async def execute(x: int, y: int) -> int:
        """Add two numbers.

        Args:
            x: the first
            y: the second
        """
        return x + y

    return execute


@task
def with_a_tool() -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=[use_tools(add()), generate()], scorer=includes())


@task
def agent(attempts: int = 1) -> Task:
    return Task(
        dataset=MemoryDataset(SUMS[:3]), solver=basic_agent(tools=[add()], message_limit=8), scorer=includes()
    )


@solver
def counting() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state)
        state.store.set("words", len(state.output.completion.split()))
        state.metadata["seen"] = True
        return state

    return solve


@scorer(metrics={"words": [mean(), stderr()], "seen": [accuracy()]})
def by_key() -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        return Score(
            value={"words": state.store.get("words"), "seen": "C" if state.metadata.get("seen") else "I"}
        )

    return score


@task
def keys() -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=counting(), scorer=by_key())


@task
def graded(model: str | None = None) -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=generate(), scorer=model_graded_qa(model=model))


@scorer(metrics=[accuracy()])
def asks_a_model(model: str | None) -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        if model == "of answers" and not state.output.completion:
            return Score(value="I")
        judge = get_model(role="grader") if model in (None, "of answers", "twice") else get_model(model)
        if model == "twice":
            await judge.generate("Is it long?")
        return Score(value=(await judge.generate("Is it right?")).completion)

    return score


@task
def graded_by_its_own(model: str | None = None) -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=generate(), scorer=asks_a_model(model))


@task
def graded_twice() -> Task:
    return Task(
        dataset=MemoryDataset(SUMS[:3]), solver=generate(), scorer=[model_graded_qa(), model_graded_fact()]
    )


@solver
def with_somebody(how: str) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if how == "another model":
            await get_model(role="customer", default="openai/gpt-4o").generate("What would you like?")
        if how == "programs":
            await sandbox().exec(["true"])
        while how == "without end":
            state = await generate(state)
        return await generate(state)

    return solve


@task
def needs(how: str) -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=with_somebody(how), scorer=match())


@scorer(metrics=[accuracy()])
def looks_for_more() -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        return Score(value=state.store.get("found")["by another solver"])

    return score


@task
def scored_by_what_was_left() -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=generate(), scorer=looks_for_more())


@task
def without_data(how: str) -> Task:
    """As libraries say so that have no network."""
    if how == "file":
        raise FileNotFoundError("https://example.org/data.csv")
    if how == "offline":
        raise ValueError("offline mode is enabled")
    try:
        raise ConnectionError("no route")
    except ConnectionError as error:
        if how == "waiting":
            time.sleep(60)
        if how == "again":
            raise RuntimeError("tried three times") from error
        raise ValueError("broken rows") from None


@task
def on_the_host() -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=generate(), scorer=match(), sandbox="local")


@task
def in_docker() -> Task:
    return Task(dataset=MemoryDataset(SUMS[:3]), solver=generate(), scorer=match(), sandbox="docker")


@scorer(metrics=[accuracy()])
def in_number() -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        return Score(value=len(state.output.completion) / 2)

    return score


@task
def in_numbers() -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=generate(), scorer=in_number())


@scorer(metrics=[accuracy()])
def in_word(word: str) -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        return Score(value=float("nan") if word == "nan" else word)

    return score


@task
def in_words(word: str = "P") -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=generate(), scorer=in_word(word))


@solver
def again() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state)
        return await generate(state, temperature=0.7)

    return solve


@task
def asked_twice() -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=again(), scorer=match())


@task
def thinks() -> Task:
    return Task(
        dataset=MemoryDataset(SUMS),
        solver=[system_message("Think."), use_tools(add()), generate(temperature=0.7)],
        scorer=includes(),
    )


@solver
def swallowing() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        try:
            return await generate(state)
        except Exception:
            return state

    return solve


@task
def swallows() -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=swallowing(), scorer=match())


@solver
def raising() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        raise RuntimeError("a fault of the solver's")

    return solve


@task
def raises() -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=raising(), scorer=match())


@task
def forced() -> Task:
    return Task(
        dataset=MemoryDataset(SUMS), solver=[use_tools(add(), tool_choice="any"), generate()], scorer=match()
    )


@task
def pictures() -> Task:
    image = ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AA==")])
    return Task(dataset=MemoryDataset([Sample(input=[image], target="a")]), solver=generate(), scorer=match())


@task
def unscored() -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=generate())


@task
def drawn(by: str) -> Task:
    samples = list(SUMS)
    if by == "the machine":
        random.SystemRandom().shuffle(samples)
    if by == "random":
        random.shuffle(samples)
    if by == "numpy":
        np.random.shuffle(samples)  # type: ignore[arg-type]
    dataset = MemoryDataset(samples)
    if by == "Inspect":
        dataset.shuffle()
        dataset.shuffle_choices()
    return Task(dataset=dataset, solver=generate(), scorer=match())


class Kind(Enum):
    EVEN = auto()
    ODD = auto()


@scorer(metrics=[accuracy()])
def by_kind() -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        return Score(value=state.metadata["kind"] is Kind.ODD and state.metadata["seen"] == 1)

    return score


@solver
def seeing() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.metadata["seen"] += 1
        return await generate(state)

    return solve


@task
def kinds() -> Task:
    samples = [
        s.model_copy(update={"metadata": {"kind": k, "seen": 0}}) for s, k in zip(SUMS, Kind, strict=False)
    ]
    return Task(dataset=MemoryDataset(samples), solver=seeing(), scorer=by_kind())


@scorer(metrics={"*": [mean()]})
def by_any_key() -> Any:
    async def score(state: TaskState, target: Any) -> Score:
        return Score(value={"a": 1, "b": 0})

    return score


@task
def any_keys() -> Task:
    return Task(dataset=MemoryDataset(SUMS), solver=generate(), scorer=by_any_key())
