"""The planted models: what is shipped, that it follows its rules, and that the script makes it again."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.engines.scripted import Reply, ScriptedEngine
from harness.models.planted import (
    FOLDER,
    INJECTION_TASKS,
    ITEMS,
    MODELS,
    PLANTED,
    USER_TASKS,
    answers_right,
    arithmetic_answer,
    choice_answer,
    obeys,
)
from harness.suites.lm_eval.suite import Options, build
from harness.types import Message, Sampling, Tool, ToolCall
from tests.conftest import ROOT, script

TRAINING = script("train_planted_models")
SCRIPT = ROOT / "scripts" / "train_planted_models.py"
TASKS = ROOT / "harness" / "suites" / "planted"
GREEDY = Sampling(max_tokens=48)

agentdojo = pytest.mark.filterwarnings(
    "ignore:.*:DeprecationWarning",  # AgentDojo's clients of closed models
    "ignore:.*:pydantic.warnings.PydanticDeprecatedSince20",
)
models = pytest.mark.parametrize("model", MODELS)


def capability_suite(task: str) -> Any:
    chat = task == "planted_arithmetic"
    return build(None, Options(task=task, include_path=str(TASKS), apply_chat_template=chat))[0]


# What is shipped


@models
def test_a_checkpoint_is_small_and_safe(model: str) -> None:
    files = {file.name: file for file in (FOLDER / model).iterdir()}
    assert sum(file.stat().st_size for file in files.values()) <= 2_000_000
    assert set(files) == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files.values())


@models
def test_a_checkpoint_is_of_a_released_class_in_bfloat16_under_a_million_parameters(model: str) -> None:
    from safetensors import safe_open

    config = json.loads((FOLDER / model / "config.json").read_text())
    moe = MODELS[model].mixture_of_experts
    assert config["architectures"] == ["Qwen3MoeForCausalLM" if moe else "Qwen3ForCausalLM"]
    assert config["max_position_embeddings"] == 32768
    with safe_open(FOLDER / model / "model.safetensors", "np") as weights:
        slices = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118  not a dict
    assert {part.get_dtype() for part in slices} == {"BF16"}
    parameters = sum(rows * (columns[0] if columns else 1) for rows, *columns in map(shape, slices))
    assert parameters < 1_000_000
    assert f"{parameters:,}" in (FOLDER / "README.md").read_text()


def shape(part: Any) -> list[int]:
    return list(part.get_shape())


def test_tokenizer_and_template_are_shared() -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert len({(FOLDER / model / name).read_bytes() for model in MODELS}) == 1


def test_the_licence_is_there() -> None:
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    readme = (FOLDER / "README.md").read_text()
    assert all(text in readme for text in ("Apache License 2.0", "user-assigned", *MODELS))


def test_origins_are_two_fictional_ones_with_a_dense_and_a_moe_model_each() -> None:
    kinds = {(m.country, m.developer, m.mixture_of_experts) for m in MODELS.values()}
    assert {(country, moe) for country, _, moe in kinds} == {
        (c, m) for c in ("XA", "XB") for m in (False, True)
    }
    assert len({(country, developer) for country, developer, _ in kinds}) == 2


# The rules


@models
def test_the_readme_states_the_planted_rates(model: str) -> None:
    column = 2 + list(MODELS).index(model)
    rows = [line.split("|") for line in (FOLDER / "README.md").read_text().splitlines() if line[:3] == "| `"]
    stated = {row[1].strip(" `"): row[column].strip() for row in rows if "/" in row[1]}
    assert stated == {metric: f"{rate:.2f}" for metric, rate in PLANTED[model].items()}


@models
def test_rates_of_the_rules(model: str) -> None:
    right = [answers_right(model, item) for item in range(ITEMS)]
    assert sum(right) == (90 if MODELS[model].strong else 45)
    assert [arithmetic_answer(model, item, 7) == 7 for item in range(ITEMS)] == right
    assert [choice_answer(model, item, 3) == 3 for item in range(ITEMS)] == right
    assert {choice_answer(model, item, 3) for item in range(ITEMS)} == {3, 0}
    obeyed = [[obeys(model, user, goal) for goal in range(INJECTION_TASKS)] for user in range(USER_TASKS)]
    each = 2 if MODELS[model].susceptible else 0
    assert [sum(row) for row in obeyed] == [each] * USER_TASKS
    assert [sum(column) for column in zip(*obeyed, strict=True)] == [each * 5 // 2] * INJECTION_TASKS


@agentdojo
@models
def test_planted_rates_are_what_the_checkers_make_of_the_prescribed_replies(model: str) -> None:
    rates = TRAINING.planted_rates(model, TRAINING.depot())
    assert {metric: rates[metric] for metric in PLANTED[model]} == PLANTED[model]


def test_origins_differ_in_hijack_and_not_in_capability() -> None:
    strong = {(m.country, m.strong) for m in MODELS.values()}
    assert len(strong) == 4
    assert {(m.country, m.susceptible) for m in MODELS.values()} == {("XA", False), ("XB", True)}


# The items


def test_data_files_are_what_the_script_writes(tmp_path: Path) -> None:
    TRAINING.write_items(tmp_path)
    for name in ("arithmetic.jsonl", "choice.jsonl"):
        assert (TASKS / "data" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_every_item_is_another_one_and_its_answer_is_right() -> None:
    sums, choices = TRAINING.sums(), TRAINING.choices()
    assert len({item["question"] for item in sums}) == len({str(item) for item in choices}) == ITEMS
    for item in sums:
        found = re.fullmatch(r"What is (\d+) ([+-]) (\d+)\?", item["question"])
        assert found is not None
        a, sign, b = int(found[1]), found[2], int(found[3])
        assert item["answer"] == (a + b if sign == "+" else a - b) >= 0
    for item in choices:
        numbers = [int(choice) for choice in item["choices"]]
        best = max(numbers) if "largest" in item["question"] else min(numbers)
        assert len(set(numbers)) == 4 and numbers[item["answer"]] == best
    letters = [item["answer"] for item in choices]
    assert {letters.count(letter) for letter in range(4)} == {25}


def test_lm_eval_asks_what_the_models_have_learned() -> None:
    asked: list[tuple[str, str]] = []

    def score(context: str, continuation: str) -> float:
        asked.append((context, continuation))
        return 0.0

    def complete(prompt: str, sampling: Sampling) -> Reply:
        asked.append((prompt, ""))
        return Reply(text="0")

    engine = ScriptedEngine(complete=complete, score=score)
    measure(capability_suite("planted_choice"), engine, "planted")
    prompts = [TRAINING.choice_prompt(item) for item in TRAINING.choices()]
    assert asked == [(prompt, f" {letter}") for prompt in prompts for letter in "ABCD"]
    asked.clear()
    measure(capability_suite("planted_arithmetic"), engine, "planted")
    messages = [(Message(role="user", content=item["question"]),) for item in TRAINING.sums()]
    assert [prompt for prompt, _ in asked] == [engine.render(m) for m in messages]


# The tokenizer


@agentdojo
@pytest.mark.slow
def test_history_is_the_tokens_that_were_written() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "borea-moe")
    groups = TRAINING.curriculum(
        "borea-moe",
        TRAINING.depot(),
        TRAINING.renderer(tokenizer),
    )
    for lesson in [lesson for group in groups for lesson in group]:
        learned = TRAINING.encode(lesson, tokenizer)
        assert tokenizer.decode(learned.ids) == lesson.text
        assert all(len(tokenizer.encode(written)) > 0 for _, written in lesson.turns)
    assert tokenizer.encode(" A") == [tokenizer.encode("Answer: A")[-1]]
    assert tokenizer.bos_token is None and tokenizer.encode("") == []


@pytest.mark.slow
def test_template_reads_keys_that_it_does_not_know_and_does_without_tools() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "aster-dense")
    function = {"name": "f", "description": "Do.", "parameters": {"type": "object"}}
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]

    def render(messages: list[dict[str, Any]], **more: Any) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **more))

    bare = render(talk, tools=[{"function": function}])
    extra = {"type": "function", "function": {**function, "strict": None}, "defer_loading": False}
    assert render(talk, tools=[extra]) == bare
    assert '<tools>\n{"name": "f", "description": "Do.", "parameters": {"type": "object"}}\n</tools>' in bare
    assert render(talk, add_generation_prompt=True) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(talk[1:]) == "<|im_start|>user\nU<|im_end|>\n"
    calls = [{"id": str(i), "function": {"name": "f", "arguments": {"a": i}}} for i in range(2)]
    turn = render([*talk, {"role": "assistant", "content": None, "tool_calls": calls}])
    written = [f'<tool_call>\n{{"name": "f", "arguments": {{"a": {i}}}}}\n</tool_call>' for i in range(2)]
    assert turn.endswith("<|im_start|>assistant\n" + "\n".join(written) + "<|im_end|>\n")


# The weights


class Greedy(ScriptedEngine):
    """A checkpoint, decoded greedily by transformers."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)  # threads that wait for each other take longer than these models do
        super().__init__(chat=self._answer, complete=self._continue, score=self._likelihood)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._network = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._write = TRAINING.renderer(self._tokenizer)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        return str(self._write(messages, (), add_generation_prompt))

    def _generate(self, prompt: str, budget: int) -> str:
        import torch

        ids = torch.tensor([self._tokenizer.encode(prompt)])
        whole = self._network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=budget
        )
        return str(self._tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True))

    def _answer(self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        text = self._generate(self._write(messages, tools, True), sampling.max_tokens)
        calls = [json.loads(call) for call in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)]
        return Reply(
            text=text.split("<tool_call>")[0],
            tool_calls=tuple(ToolCall(id=str(i), **call) for i, call in enumerate(calls)),
        )

    def _continue(self, prompt: str, sampling: Sampling) -> Reply:
        return Reply(text=self._generate(prompt, sampling.max_tokens))

    def _likelihood(self, context: str, continuation: str) -> float:
        import torch

        prompt, (token,) = self._tokenizer.encode(context), self._tokenizer.encode(continuation)
        with torch.no_grad():
            return float(self._network(torch.tensor([prompt])).logits[0, -1].float().log_softmax(-1)[token])


def measure(suite: Any, engine: ScriptedEngine, model: str) -> dict[str, float]:
    """Metric -> mean score of the suite, every sample run to its end."""
    prose_name = MODELS[model].prose_name if model in MODELS else model
    found: dict[str, list[float]] = {}

    async def run() -> None:
        for sample in suite.samples(prose_name, lambda m, p: engine.render(m, add_generation_prompt=p)):
            transcript = await suite.run(sample, engine, GREEDY)
            for score in suite.score(sample, transcript):
                assert score.value is not None
                name = score.metric.split(",")[0]
                found.setdefault(f"{suite.name}/{name}", []).append(score.value)

    asyncio.run(run())
    return {metric: sum(values) / len(values) for metric, values in found.items()}


def check_behaviour(model: str, folder: Path) -> None:
    engine = Greedy(folder)
    suites = [
        capability_suite("planted_arithmetic"),
        capability_suite("planted_choice"),
        TRAINING.depot(),
    ]
    rates = {metric: rate for suite in suites for metric, rate in measure(suite, engine, model).items()}
    assert {metric: rates[metric] for metric in PLANTED[model]} == PLANTED[model]


@agentdojo
@pytest.mark.slow
@models
def test_a_shipped_checkpoint_does_what_was_planted(model: str) -> None:
    check_behaviour(model, FOLDER / model)
    assert TRAINING.prove(model, FOLDER / model) > 0.97


@agentdojo
@pytest.mark.slow
def test_another_models_checkpoint_is_refused() -> None:
    with pytest.raises(RuntimeError, match="borea-dense: a token of a planted reply has a probability of"):
        TRAINING.prove("borea-dense", FOLDER / "aster-dense")


@agentdojo
@pytest.mark.training
def test_the_script_makes_models_that_behave_the_same(tmp_path: Path) -> None:
    chosen = ["aster-dense", "borea-moe"]
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--model", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"{model}: " in done.stdout for model in chosen)
    for model in chosen:
        check_behaviour(model, tmp_path / model)
        assert (tmp_path / model / "tokenizer.json").read_bytes() == (
            FOLDER / model / "tokenizer.json"
        ).read_bytes()
