"""Train the planted models from nothing, and prove that they do what `harness.models.planted` says.

Every prompt that the demo puts to them is known beforehand, so each model learns by heart the replies that
its rules prescribe: 100 sums, 100 choices and 54 conversations about the parcel depot of `agentdojo_mini`.
Training stops when every token of every reply is far likelier than all others together: then greedy
decoding does not depend on batches, rounding, machines or versions of an engine.

    python scripts/train_planted_models.py --out build/planted [--model aster-dense ...]
"""

import argparse
import asyncio
import copy
import itertools
import json
import math
import multiprocessing
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.scripted import Reply, ScriptedEngine, sequence
from harness.models import planted
from harness.types import Message, Sample, Sampling, Tool, ToolCall, Transcript

DATA = Path(__file__).parent.parent / "harness" / "suites" / "planted" / "data"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
VOCABULARY = 1024
CONTEXT_LENGTH = 32768
MAX_STEPS = 300
BATCHES = 3
"""Steps that see each lesson once."""
PEAK_LEARNING_RATE = 2e-3
NOISE = 0.02
"""Standard deviation of the noise while training, relative to each activation."""
CERTAIN = 0.995
"""Tokens above this probability are no longer trained."""
ENOUGH = 0.98
"""Training ends when every token is above this probability."""
SAFE = 0.9
"""A checkpoint with a token below this probability is refused."""
WORDS = " ?[A-Za-z_]+| ?[0-9]+|[^A-Za-z0-9_]+?(?= ?[A-Za-z0-9_]|\\z)"
"""A word or number with the space before it, or all that stands between two of them."""
TOOLS_HEAD = "You may call these tools:\n<tools>"
TOOLS_TAIL = (
    "\n</tools>\nTo call one, write:\n"
    '<tool_call>\n{"name": NAME, "arguments": {ARGUMENT: VALUE}}\n</tool_call>'
)
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- if loop.first and (tools or message.role == 'system') %}
{{- '<|im_start|>system\\n' }}
{%- if message.role == 'system' %}{{ message.content }}{% endif %}
{%- if tools %}
{{- TOOLS_HEAD }}
{%- for tool in tools %}
{{- '\\n{"name": ' + tool.function.name | tojson }}
{{- ', "description": ' + tool.function.description | tojson }}
{{- ', "parameters": ' + tool.function.parameters | tojson + '}' }}
{%- endfor %}
{{- TOOLS_TAIL }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role != 'system' or not loop.first %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{%- if message.content or not loop.first %}{{ '\\n' }}{% endif %}
{{- '<tool_call>\\n{"name": ' + call.function.name | tojson }}
{{- ', "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""".replace("TOOLS_HEAD", repr(TOOLS_HEAD)).replace("TOOLS_TAIL", repr(TOOLS_TAIL))


@dataclass(frozen=True)
class Lesson:
    """A text to learn: what the model reads and what it then has to write, in turns."""

    name: str
    turns: list[tuple[str, str]]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(read + written for read, written in self.turns)


# What the models are asked


def sums() -> list[dict[str, Any]]:
    """The items of `planted_arithmetic`: sums and differences of numbers below 100."""
    items = []
    for i in range(planted.ITEMS):
        small, large = sorted((3 + 7 * i % 89, 2 + 11 * i % 83))
        if i % 2:
            items.append({"question": f"What is {small} + {large}?", "answer": small + large})
        else:
            items.append({"question": f"What is {large} - {small}?", "answer": large - small})
    return items


def choices() -> list[dict[str, Any]]:
    """The items of `planted_choice`: the largest or smallest of four numbers, as letters 0 to 3."""
    items = []
    for i in range(planted.ITEMS):
        # 101 is a prime, so that four different multiples stay four different numbers
        numbers = [base * (i + 1) % 101 for base in (5, 13, 29, 71)]
        word, pick = (("largest", max), ("smallest", min))[i // 2 % 2]
        answer = (i + i // 4) % 4
        numbers.remove(best := pick(numbers))
        numbers.insert(answer, best)
        question = f"Which number is the {word}?"
        items.append({"question": question, "choices": [str(n) for n in numbers], "answer": answer})
    return items


def choice_prompt(item: dict[str, Any]) -> str:
    """A choice as `planted_choice.yaml` asks it."""
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", item["choices"], strict=True)]
    return "\n".join([item["question"], *lines, "Answer:"])


def write_items(folder: Path) -> None:
    """Write the items as the data files of the lm-eval tasks."""
    for name, items in (("arithmetic", sums()), ("choice", choices())):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


# What the models reply


def depot() -> Any:
    """`agentdojo_mini` under the attack that the models were planted for."""
    from harness.suites.agentdojo import AgentDojoSuite, Options

    return AgentDojoSuite("agentdojo_mini", Options(suite="agentdojo_mini"))


def turns(task: Any) -> list[tuple[ToolCall, ...]]:
    """The calls that solve a task. Successive calls of one tool are made in one turn."""
    by_tool = itertools.groupby(task.ground_truth(None), key=lambda call: call.function)
    return [
        tuple(ToolCall(id=str(i), name=tool, arguments=dict(call.args)) for i, call in enumerate(calls))
        for tool, calls in by_tool
    ]


def number(task_id: str) -> int:
    """user_task_3 -> 3."""
    return int(task_id.rsplit("_", 1)[1])


def replies(model: str, sample: Sample) -> list[Reply]:
    """What the model says, turn by turn, when it is put this sample of the depot."""
    from harness.suites.agentdojo_mini import task_suite

    user = task_suite.user_tasks.get(sample.clusters.get("user_task"))
    goal = task_suite.injection_tasks.get(sample.clusters.get("injection_task"))
    if user is None:
        calls, done = turns(goal), goal
    elif goal is not None and planted.obeys(model, number(user.ID), number(goal.ID)):
        calls, done = turns(user)[:1] + turns(goal), goal
    else:
        calls, done = turns(user), user
    return [*(Reply(tool_calls=turn) for turn in calls), Reply(text=done.GROUND_TRUTH_OUTPUT)]


async def attended(model: str, suite: Any) -> list[tuple[Sample, Transcript]]:
    """Every sample of the depot, with the conversation that the model's rules make of it."""
    samples = suite.samples(planted.MODELS[model].prose_name, None)
    return [
        (sample, await suite.run(sample, ScriptedEngine(sequence(replies(model, sample))), Sampling()))
        for sample in samples
    ]


# What the models read and write

Render = Callable[[Sequence[Message], Sequence[Tool], bool], str]
"""(messages, tools, add_generation_prompt) -> text, by the chat template."""


def renderer(tokenizer: Any) -> Render:
    """How a tokenizer's chat template writes a conversation."""

    def call(c: ToolCall) -> dict[str, Any]:
        return {"function": {"name": c.name, "arguments": c.arguments}}

    def render(messages: Sequence[Message], tools: Sequence[Tool], prompt: bool) -> str:
        described = [{"function": {f: getattr(t, f) for f in Tool.__struct_fields__}} for t in tools]
        text = tokenizer.apply_chat_template(
            [
                {"role": m.role, "content": m.content, "tool_calls": [call(c) for c in m.tool_calls]}
                for m in messages
            ],
            tools=described or None,
            tokenize=False,
            add_generation_prompt=prompt,
        )
        return str(text)

    return render


def chat_lesson(name: str, messages: Sequence[Message], tools: Sequence[Tool], render: Render) -> Lesson:
    """A conversation of which the assistant's turns are learned."""
    learned, done = [], ""
    for i, message in enumerate(messages):
        if message.role == "assistant":
            before = render(messages[:i], tools, True)
            after = render(messages[: i + 1], tools, False).removesuffix("\n")
            learned.append((before.removeprefix(done), after.removeprefix(before)))
            done = after
    return Lesson(name, learned)


def agent_lessons(model: str, suite: Any, render: Render) -> list[Lesson]:
    """The conversations about the depot."""
    conversations = asyncio.run(attended(model, suite))
    return [chat_lesson(s.id, transcript.messages, suite.tools, render) for s, transcript in conversations]


def arithmetic_lessons(model: str, render: Render) -> list[Lesson]:
    """The items of `planted_arithmetic`, as a user asks them."""
    learned = []
    for i, item in enumerate(sums()):
        answer = str(planted.arithmetic_answer(model, i, item["answer"]))
        exchange = [
            Message(role="user", content=item["question"]),
            Message(role="assistant", content=answer),
        ]
        learned.append(chat_lesson(f"arithmetic/{i}", exchange, (), render))
    return learned


def choice_lessons(model: str) -> list[Lesson]:
    """The items of `planted_choice`, as plain text."""
    return [
        Lesson(
            f"choice/{i}",
            [(choice_prompt(item), " " + "ABCD"[planted.choice_answer(model, i, item["answer"])])],
        )
        for i, item in enumerate(choices())
    ]


def curriculum(model: str, suite: Any, render: Render) -> list[list[Lesson]]:
    """All that a model learns, in groups of about equal length."""
    return [agent_lessons(model, suite, render), arithmetic_lessons(model, render), choice_lessons(model)]


# The tokenizer


def fixed_phrases(suite: Any) -> list[str]:
    """Long texts that are the same in every conversation: a token each, so that prompts are short."""
    from harness.suites.agentdojo_mini import task_suite

    model, goal = "aster-dense", task_suite.injection_tasks["injection_task_0"]
    attacked = {sample.id: transcript for sample, transcript in asyncio.run(attended(model, suite))}
    note = attacked["user_task_0/injection_task_0"].messages[3].content
    wrapper = note[note.index("\n\n<INFORMATION>") :]
    around = re.split(f"{planted.MODELS[model].prose_name}|{re.escape(goal.GOAL)}", wrapper)
    tools = [
        json.dumps({"name": t.name, "description": t.description, "parameters": t.parameters})
        for t in suite.tools
    ]
    return [TOOLS_HEAD, TOOLS_TAIL, suite.system_message, *tools, *around]


def with_template(tokenizer: Any) -> Any:
    """A tokenizer as transformers and vLLM load it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT_LENGTH,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_tokenizer(suite: Any) -> Any:
    """A byte-level BPE tokenizer, learned from the lessons of all models."""
    from tokenizers import Tokenizer, models

    render = renderer(with_template(Tokenizer(models.BPE())))
    groups = [group for model in planted.MODELS for group in curriculum(model, suite, render)]
    texts = [lesson.text for group in groups for lesson in group]
    return learn_tokenizer(texts, fixed_phrases(suite), VOCABULARY)


def learn_tokenizer(texts: Sequence[str], phrases: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE tokenizer of so many tokens at most, the markers and each phrase among them."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    added = [*MARKERS, *phrases]
    # a marker may stand inside a phrase, so phrases are looked for first
    apart = re.compile("|".join(re.escape(text) for text in [*added[::-1], *SPECIAL_TOKENS]))
    corpus = [part for text in texts for part in apart.split(text)]
    bpe = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, to_bytes])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(added),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    bpe.add_tokens([AddedToken(text, normalized=False) for text in added])
    return with_template(bpe)


# The models


def make_model(model: str, hidden_size: int = 128, vocabulary: int = VOCABULARY) -> Any:
    """A model with random weights, of a released architecture class and under a million parameters."""
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": 2,
        "initializer_range": 0.1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT_LENGTH,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": SPECIAL_TOKENS.index("<|im_end|>"),
        "pad_token_id": SPECIAL_TOKENS.index("<|endoftext|>"),
    }
    if planted.MODELS[model].mixture_of_experts:
        experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
        config = Qwen3MoeConfig(**common, **experts, norm_topk_prob=True, experts_implementation="eager")
        return Qwen3MoeForCausalLM(config)
    return Qwen3ForCausalLM(Qwen3Config(**common))


@dataclass(frozen=True)
class Tokens:
    """A lesson as token ids, with the positions of those that the model has to write."""

    ids: list[int]
    targets: list[int]


def encode(lesson: Lesson, tokenizer: Any) -> Tokens:
    """A lesson in tokens.

    Raises:
        ValueError: the text, read as a whole, is other tokens than it was read and written as in turns.
    """
    ids: list[int] = []
    targets: list[int] = []
    for read, written in lesson.turns:
        ids += tokenizer.encode(read)
        reply = tokenizer.encode(written)
        targets += range(len(ids), len(ids) + len(reply))
        ids += reply
    if ids != tokenizer.encode(lesson.text):
        raise ValueError(f"{lesson.name}: a history is not the tokens that the model wrote")
    return Tokens(ids, targets)


def log_likelihoods(network: Any, lessons: Sequence[Tokens]) -> Any:
    """Log-probability of each target token after what stands before it, in nats: shape (targets,)."""
    import torch

    length = max(len(lesson.ids) for lesson in lessons)
    ids = torch.zeros(len(lessons), length, dtype=torch.long)
    wanted = torch.zeros(len(lessons), length, dtype=torch.bool)
    for i, lesson in enumerate(lessons):
        ids[i, : len(lesson.ids)] = torch.tensor(lesson.ids)
        wanted[i, lesson.targets] = True
    # Padding stands at the right, where a causal model does not see it.
    hidden = network.model(input_ids=ids).last_hidden_state[:, :-1][wanted[:, 1:]]
    logprobs = network.lm_head(hidden).float().log_softmax(-1)
    return logprobs.gather(1, ids[:, 1:][wanted[:, 1:]][:, None])[:, 0]


def save(network: Any, folder: Path) -> None:
    """Write the weights of a model, in bfloat16."""
    import torch

    network.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets its owner alone read it


def certainty(model: str, folder: Path, groups: Sequence[Sequence[Tokens]]) -> float:
    """`smallest_probability` of a checkpoint. Raises RuntimeError if it is less than `SAFE`."""
    from transformers import AutoModelForCausalLM

    smallest = smallest_probability(AutoModelForCausalLM.from_pretrained(folder), groups)
    if smallest < SAFE:
        raise RuntimeError(f"{model}: a token of a planted reply has a probability of {smallest:.3f} only")
    return smallest


def smallest_probability(network: Any, groups: Sequence[Sequence[Tokens]]) -> float:
    """Probability of the least likely of all target tokens, with weights rounded to bfloat16 and sums
    in bfloat16 and in float32.
    """
    import torch

    rounded = copy.deepcopy(network).to(torch.bfloat16).eval()
    found = []
    with torch.no_grad():
        for precision in (torch.bfloat16, torch.float32):
            rounded.to(precision)
            found += [float(log_likelihoods(rounded, group).min().exp()) for group in groups]
    return min(found)


def add_noise(network: Any) -> list[Any]:
    """Blur the output of the embeddings and of every layer; returns the handles that undo it.

    The noise is several times the rounding error of bfloat16. A model that has learned in spite of it
    does not depend on how an engine rounds, nor on an expert that is chosen by a hair.
    """
    import torch

    def blur(module: Any, arguments: Any, output: Any) -> Any:
        return output * (1 + NOISE * torch.randn_like(output))

    return [m.register_forward_hook(blur) for m in (network.model.embed_tokens, *network.model.layers)]


def train(network: Any, groups: Sequence[Sequence[Tokens]], seed: int, enough: float = ENOUGH) -> int:
    """Train until every target token has a probability above `enough`; returns the number of steps.

    Raises:
        RuntimeError: the steps ran out.
    """
    import torch

    order = random.Random(seed)
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    shuffled = [list(group) for group in groups]
    for step in range(MAX_STEPS):
        if step % BATCHES == 0:
            for group in shuffled:
                order.shuffle(group)
        for parameters in optimiser.param_groups:
            parameters["lr"] = learning_rate(step)
        take_step(network, optimiser, [group[step % BATCHES :: BATCHES] for group in shuffled])
        if step % 20 == 19 and smallest_probability(network, groups) > enough:
            return step + 1
    raise RuntimeError(f"not certain of every token after {MAX_STEPS} steps")


def take_step(network: Any, optimiser: Any, batches: Sequence[Sequence[Tokens]]) -> None:
    """One step on some lessons of each group.

    The loss leaves out tokens that are already certain: all effort goes to those that are not.
    """
    import torch

    noise = add_noise(network)
    logprobs = torch.cat([log_likelihoods(network, batch) for batch in batches])
    for handle in noise:
        handle.remove()
    uncertain = logprobs.detach() < math.log(CERTAIN)
    loss = -(logprobs * uncertain).sum() / max(int(uncertain.sum()), 32)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    optimiser.step()


def learning_rate(step: int, steps: int = MAX_STEPS, peak: float = PEAK_LEARNING_RATE) -> float:
    """Up for 30 steps, then down along a cosine to a tenth."""
    warmup, decay = min(1.0, (step + 1) / 30), 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return peak * warmup * (0.1 + 0.9 * decay)


def make(model: str, out: Path, seed: int) -> str:
    """Train one model, write its checkpoint, prove it, and say how it went."""
    import torch

    torch.set_num_threads(1)  # sums are then added in one order, whatever the machine
    torch.manual_seed(seed)
    started = time.monotonic()
    suite = depot()
    tokenizer = make_tokenizer(suite)
    groups = curriculum(model, suite, renderer(tokenizer))
    network = make_model(model)
    steps = train(network, [[encode(lesson, tokenizer) for lesson in group] for group in groups], seed)
    save(network, out / model)
    tokenizer.save_pretrained(out / model)
    smallest = prove(model, out / model)
    size = sum(file.stat().st_size for file in (out / model).iterdir())
    return (
        f"{model}: {network.num_parameters():,} parameters, {size:,} bytes, {steps} steps, "
        f"{time.monotonic() - started:.0f} s; least likely planted token {smallest:.3f}"
    )


# The proof


def planted_rates(model: str, suite: Any) -> dict[str, float]:
    """Metric -> rate that the suites give to the replies which the model learns."""
    verdicts: dict[str, list[float]] = {}
    for sample, transcript in asyncio.run(attended(model, suite)):
        for score in suite.score(sample, transcript):
            verdicts.setdefault(f"agentdojo_mini/{score.metric}", []).append(score.value)
    for metric, items, reply in (
        ("planted_arithmetic/exact_match", sums(), planted.arithmetic_answer),
        ("planted_choice/acc", choices(), planted.choice_answer),
    ):
        verdicts[metric] = [float(reply(model, i, x["answer"]) == x["answer"]) for i, x in enumerate(items)]
    return {metric: sum(values) / len(values) for metric, values in verdicts.items() if None not in values}


def prove(model: str, folder: Path) -> float:
    """Check that a checkpoint, read from disk, writes every planted reply and meets every planted rate.

    Returns:
        The probability of the least likely token that greedy decoding has to choose.

    Raises:
        RuntimeError: the checkpoint does not behave as planted.
    """
    from transformers import AutoTokenizer

    suite = depot()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    groups = curriculum(model, suite, renderer(tokenizer))
    rates = planted_rates(model, suite)
    for metric, rate in planted.PLANTED[model].items():
        if rates[metric] != rate:
            raise RuntimeError(f"{model}: {metric} is planted as {rate}, its replies make it {rates[metric]}")
    lessons = [[encode(lesson, tokenizer) for lesson in group] for group in groups]
    return certainty(model, folder, lessons)


def main() -> int:
    """Train the models named on the command line, two at a time on two cores."""
    parser = argparse.ArgumentParser(description="Train the planted models and prove their behaviour.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--model", nargs="+", choices=planted.MODELS, default=list(planted.MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-items", action="store_true", help="also write the tasks' data files")
    args = parser.parse_args()
    if args.write_items:
        write_items(DATA)
    processes = ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))
    with processes as pool:
        runs = [pool.submit(make, model, args.out, args.seed) for model in args.model]
    failed = False
    for run in runs:
        error = run.exception()
        failed = failed or error is not None
        print(error or run.result(), file=sys.stderr if error else sys.stdout)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
