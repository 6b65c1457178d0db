"""What can be known of every cell before anything is loaded: one page of checks, each a sentence.

A check reads the files of a checkpoint (not its weights), the config and the suite, and yields a `Caution`
for what a reader of the numbers would want to have known. `harness plan` prints them, `plan --strict` fails
on them, and the manifest keeps them for the cards. What would measure nothing at all is `void`, and refused.

A suite that knows something itself (its data, its budgets) has the method `Suite.cautions`.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.config import ModelSpec, RunConfig, drawn_by
from harness.engines.rendering import begun_by
from harness.errors import UserError
from harness.models import checkpoint
from harness.models.dialects import reasoning_parser
from harness.models.fit import GIB, UTILIZATION
from harness.models.registry import behind, specs
from harness.models.template import environment, read_template, special_tokens
from harness.models.trials import Rendering, Sent, try_template
from harness.run.models import PlannedModel
from harness.suites.base import Suite
from harness.types import INSTRUCT, Caution, Message, Sampling, Variant


@dataclass(frozen=True)
class Subject:
    """A cell before its model is loaded."""

    config: RunConfig
    model: PlannedModel
    suite: Suite
    folder: Path | None
    """Of the checkpoint's small files; None where it is not vLLM's to load."""

    @property
    def sampling(self) -> Sampling:
        """How its replies are drawn where the suite does not say otherwise."""
        return drawn_by(self.config.sampling, self.model.spec)

    @property
    def switched(self) -> bool:
        """Whether requests carry something for its variant that a chat template is to write."""
        variant = self.model.spec.variant
        return bool(variant.chat_template_kwargs or variant.system_prompt)

    @property
    def chats(self) -> bool:
        """Whether what the suite sends goes through the chat template."""
        needs = self.suite.needs
        return needs.chat_template or not (needs.bare_prompts or needs.loglikelihoods)

    def caution(self, check: str, text: str, *, void: bool = False) -> Caution:
        """A caution about this cell."""
        return Caution(check=check, text=text, model=self.model.spec.name, suite=self.suite.name, void=void)


TEMPLATED = ("auto", "fastokens", "hf", "slow")
"""Tokenizer modes of vLLM in which prompts are made by the checkpoint's template. The others (Mistral's,
DeepSeek's) write them in code."""

HARMONY = "gpt_oss"
"""Model type whose agents' prompts vLLM writes in code (Harmony), with the day in them."""

CONTEXT_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_target_positions", "max_sequence_length",
)  # fmt: skip
"""Keys of a config.json that state a context length, those that vLLM reads."""


def endpoint_cannot(subject: Subject) -> Iterator[Caution]:
    """What a suite asks for, and no server of the chat completions API gives."""
    needs = subject.suite.needs
    lacks = [
        what
        for needed, what in (
            (needs.chat_template, "show the text that a chat template makes of a conversation"),
            (needs.loglikelihoods, "score log-likelihoods"),
        )
        if needed
    ]
    if subject.config.engine.kind == "endpoint" and lacks:
        yield subject.caution(
            "endpoint",
            f"an endpoint cannot {' or '.join(lacks)}, which suite {subject.suite.name} needs: use engine "
            "kind vllm for it, or leave the suite out",
            void=True,
        )


def server_renders(subject: Subject) -> Iterator[Caution]:
    """Conversations that a server puts into words, out of sight."""
    if subject.config.engine.kind == "endpoint" and subject.suite.needs.tools:
        yield subject.caution(
            "endpoint_template",
            f"model {subject.model.spec.name}: the server makes its prompts, so that what the chat template "
            "leaves out, and which day it writes, is not known here and not held by `date`",
        )


def special_tokens_read(subject: Subject) -> Iterator[Caution]:
    """Special tokens that a suite looks for in replies, where a server takes them out."""
    reading = subject.suite.reading() if subject.config.engine.kind == "endpoint" else ""
    if not reading:
        return
    try:
        folder = checkpoint.find(subject.model.spec)
    except UserError:  # no checkpoint, but what the server calls the model
        return
    tokenizer = _tokenizer(folder) if folder else None
    if tokenizer is None:
        return
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    # A pattern may write `<\|tag\|>` for `<|tag|>`.
    if read := [tag for tag in special if tag in reading or tag in reading.replace("\\", "")]:
        yield subject.caution(
            "special_tokens",
            f"suite {subject.suite.name} looks for {' and '.join(read)} in replies, special tokens of model "
            f"{subject.model.spec.name}, which servers take out of them: nothing would be found; use engine "
            "kind vllm",
        )


def no_parser(subject: Subject) -> Iterator[Caution]:
    """A model whose tool calls nobody reads."""
    spec = subject.model.spec
    if subject.folder and subject.suite.needs.tools and spec.tool_call_parser is None:
        yield subject.caution(
            "tool_call_parser",
            f"{spec.where()}model {spec.name} has no tool_call_parser, which suite {subject.suite.name} "
            f"needs: name one (`harness models add {spec.path}` proposes what its template writes)",
            void=True,
        )


def chat_template(subject: Subject) -> Iterator[Caution]:
    """A chat template that is absent, broken, or does otherwise than one thinks with what the suite sends."""
    where = f"{subject.model.spec.where('path')}model {subject.model.spec.name}"
    try:
        shown = rendering(subject)
    except UserError as error:
        yield subject.caution("chat_template", f"{where} {error}", void=True)
        return
    if shown is None:
        return
    if shown.void is not None:
        text = f"{where}: the chat template {shown.void}: choose another model, or leave the suite out"
        yield subject.caution("chat_template", text, void=True)
        return
    for line in shown.lines():
        yield subject.caution("chat_template", f"{where}: the chat template {line}")
    if shown.dated:
        text = f"the chat template writes the date: {subject.config.day}; `date` in the config sets it"
        yield subject.caution("date", f"{where}: {text}")


def rendering(subject: Subject) -> Rendering | None:
    """What the model's chat template does with what the suite sends; None where no template is used.

    Raises:
        UserError: there is no template, or it is not one.
    """
    needs, spec = subject.suite.needs, subject.model.spec
    mode = {**subject.config.engine.args, **spec.engine_args}.get("tokenizer_mode", "auto")
    needed = needs.tools or needs.chat_template or (subject.switched and subject.chats)
    if subject.folder is None or mode not in TEMPLATED or not needed:
        return None
    variant = spec.variant
    if needs.tools and checkpoint.read_config(subject.folder).get("model_type") == HARMONY:
        if unread := variant.chat_template_kwargs.keys() - {"reasoning_effort"}:
            raise UserError(f"is shown prompts that vLLM writes in code, which know no {', '.join(unread)}")
        return Rendering(dated=True)
    source = checkpoint.chat_template(subject.folder, tools=needs.tools)
    if source is None:
        lacks = "has no chat template"
        if checkpoint.chat_templates(subject.folder):
            lacks += " that its tokenizer reads, only one of a processor (copy it to chat_template.jinja)"
        raise UserError(f"{lacks}, which suite {subject.suite.name} needs")
    try:
        read_template(source)
    except UserError as error:
        raise UserError(f"cannot be asked: {error}") from error
    sent = Sent(
        tools=needs.tools,
        system_matters=needs.system_message,
        user_after_results=needs.user_after_results,
        users_in_a_row=needs.users_in_a_row,
        keywords=json.dumps(variant.chat_template_kwargs),
        system=variant.system_prompt is not None,
        instruct=variant.instruct,
    )
    return try_template(source, sent, tuple(sorted(special_tokens(subject.folder).items())))


def rendering_protocol(subject: Subject) -> dict[str, str]:
    """Fields of a cell's protocol for what the chat template does out of the way."""
    try:
        shown = rendering(subject)
    except UserError:  # told by `chat_template`, which refuses the cell
        return {}
    if shown is None:
        return {}
    losses = "; ".join(shown.lines())
    return ({"chat_template": losses} if losses else {}) | (
        {"date": subject.config.day} if shown.dated else {}
    )


def too_long_context(subject: Subject) -> Iterator[Caution]:
    """A context beyond what the model states: vLLM refuses it, once it has started."""
    spec = subject.model.spec
    asked = {**subject.config.engine.args, **spec.engine_args}.get("max_model_len")
    if (
        subject.folder is None
        or not isinstance(asked, int)
        or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    ):
        return
    stated = stated_context(checkpoint.read_config(subject.folder))
    if stated is not None and asked > stated:
        key = "engine_args" if "max_model_len" in spec.engine_args else ""
        yield subject.caution(
            "max_model_len",
            f"{spec.where(key)}max_model_len {asked} is beyond the {stated} tokens that the config.json of "
            f"model {spec.name} states: lower it (VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 lets vLLM try)",
            void=True,
        )


def stated_context(config: Mapping[str, Any]) -> int | None:
    """The longest context that a config.json can be read to state, scaling included; None if none."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else config
    lengths = [text[key] for key in CONTEXT_KEYS if isinstance(text.get(key), int)]
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if isinstance(factor, int | float) and factor > 1:
        # Some configs state the scaled length already: the larger reading refuses nothing good.
        lengths = [int(max(lengths, default=0) * factor), int((original or 0) * factor), *lengths]
    return max(lengths, default=0) or None


def greedy_attempts(subject: Subject) -> Iterator[Caution]:
    """Several attempts that are drawn greedily."""
    drawn = subject.suite.drawn(subject.sampling)
    attempts = subject.suite.attempts(subject.config.attempts, subject.sampling)
    if attempts > 1 and drawn is not None and drawn.temperature == 0:
        yield subject.caution(
            "greedy_attempts",
            f"suite {subject.suite.name} draws its replies greedily (temperature 0), so that its {attempts} "
            "attempts at a sample are alike but for the rounding of the engine: set sampling.temperature "
            "above 0, or leave `attempts` out",
        )


def variant_without_template(subject: Subject) -> Iterator[Caution]:
    """A mode, an effort or a system prompt that no request of the suite carries."""
    if subject.switched and not subject.chats:
        yield subject.caution(
            "variant_without_template",
            f"suite {subject.suite.name} asks without the chat template, by which {subject.model.spec.name} "
            "is switched, so that the mode changes nothing there: set apply_chat_template: true in the suite",
        )


def scored_in_a_thought(subject: Subject) -> Iterator[Caution]:
    """Log-likelihoods of answers where the model is about to think."""
    spec = subject.model.spec
    thinks = spec.variant.mode or spec.default_mode
    if (
        subject.suite.needs.loglikelihoods
        and subject.suite.needs.chat_template
        and thinks not in (None, INSTRUCT)
    ):
        yield subject.caution(
            "scored_in_a_thought",
            f"suite {subject.suite.name} scores how likely answers are right after the prompt, where "
            f"{spec.name} would think first: take its instruct mode, or a task that generates its answers",
        )


def greedy_thinking(subject: Subject) -> Iterator[Caution]:
    """A model that thinks and takes the likeliest token each time."""
    spec, drawn = subject.model.spec, subject.suite.drawn(subject.sampling)
    mode = spec.variant.mode or spec.default_mode
    if drawn is None or drawn.temperature > 0 or mode in (None, INSTRUCT):
        return
    advised = spec.sampling.get(mode or "", {}).get("temperature")
    by = f"; its developer recommends temperature {advised:g}" if advised else ""
    run = "" if subject.sampling.temperature == 0 else " (`sampling: run` in the suite lets the run's count)"
    remedy = "`sampling: recommended`" if advised else "a temperature above 0"
    yield subject.caution(
        "greedy_thinking",
        f"model {spec.name} thinks, and suite {subject.suite.name} draws its replies greedily, of which "
        f"models that think are known to repeat themselves without end{by}: give it {remedy}{run}",
    )


def thoughts_in_answers(subject: Subject) -> Iterator[Caution]:
    """A model that thinks, and nothing that tells its thoughts from its answers."""
    spec, folder = subject.model.spec, subject.folder
    mode = spec.variant.mode or spec.default_mode
    if subject.config.engine.kind != "vllm" or spec.reasoning_parser or mode in (None, INSTRUCT):
        return
    if subject.suite.needs.loglikelihoods or not subject.chats:
        return
    template = checkpoint.chat_template(folder) if folder is not None else None
    known = reasoning_parser(template) if template else None
    which = f", such as {known}, which reads what its chat template writes" if known else ""
    yield subject.caution(
        "thoughts_in_answers",
        f"{spec.where()}model {spec.name} thinks, and no reasoning_parser is named, so that its thoughts are "
        f"scored as its answers: name vLLM's{which}",
    )


def thinking_budget(subject: Subject) -> Iterator[Caution]:
    """A budget of thoughts that the engine could not keep."""
    spec = subject.model.spec
    if spec.variant.thinking_token_budget is None:
        return
    where = f"{spec.where()}model {spec.name} has a thinking_token_budget"
    configured = {**subject.config.engine.args, **spec.engine_args}.get("reasoning_config")
    why = None
    if spec.variant.instruct:
        why = "and is asked not to think: leave the budget out, or ask for another mode"
    elif subject.config.engine.kind == "vllm" and spec.reasoning_parser is None and configured is None:
        why = (
            "which vLLM keeps only where it knows how a thought ends: name its reasoning_parser, or give "
            "reasoning_config in its engine_args"
        )
    if why:
        yield subject.caution("thinking_budget", f"{where}, {why}", void=True)


def no_chat_template_applied(subject: Subject) -> Iterator[Caution]:
    """A chat model that is to write, and is asked without its template."""
    if (
        subject.suite.needs.bare_prompts
        and subject.folder is not None
        and checkpoint.chat_template(subject.folder) is not None
    ):
        name = subject.model.spec.name
        yield subject.caution(
            "apply_chat_template",
            f"model {name} has a chat template, and suite {subject.suite.name} asks it without: a chat model "
            "answers badly then; set apply_chat_template: true in the suite (a base model does without)",
        )


def longest_prompt(subject: Subject) -> Iterator[Caution]:
    """A prompt that does not fit into the context with its reply."""
    if subject.folder is None:
        return
    longest, tokenizer = subject.suite.longest_prompt(), _tokenizer(subject.folder)
    arguments = {**subject.config.engine.args, **subject.model.spec.engine_args}
    context = arguments.get("max_model_len", stated_context(checkpoint.read_config(subject.folder)))
    if longest is None or tokenizer is None or not isinstance(context, int):
        return
    drawn = subject.suite.drawn(subject.sampling)
    reply = drawn.max_tokens if drawn else 1  # vLLM generates a token also where it only scores
    sample, text = longest
    template = checkpoint.chat_template(subject.folder) if subject.suite.needs.chat_template else None
    if (len(text) + len(template or "")) * MOST_TOKENS + reply <= context:
        return
    if template is not None:
        text = _as_chat(text, template, subject.folder, subject.model.spec.variant)
    tokens = len(tokenizer.encode(text, add_special_tokens=template is None).ids)
    if tokens + reply > context:
        and_reply = f", {tokens + reply} with a reply of {drawn.max_tokens}" if drawn else ""
        if not drawn and tokens == context:
            and_reply = ", which with the token that vLLM generates is one too many"
        yield subject.caution(
            "longest_prompt",
            f"the longest prompt of suite {subject.suite.name} (document {sample}) has {tokens} tokens of "
            f"model {subject.model.spec.name}{and_reply}, and its context {context}: raise max_model_len, or "
            "give fewer examples or a smaller budget",
        )


def _as_chat(text: str, template: str, folder: Path, variant: Variant) -> str:
    """A text as a user's message, the text itself where the template cannot write one."""
    from jinja2 import TemplateError

    try:
        written: str = (
            environment()
            .from_string(template)
            .render(
                messages=[
                    {"role": message.role, "content": message.content}
                    for message in begun_by([Message(role="user", content=text)], variant.system_prompt)
                ],
                add_generation_prompt=True,
                **special_tokens(folder) | variant.chat_template_kwargs,
            )
        )
    except (TemplateError, ValueError, TypeError):  # told by `chat_template`
        return text
    return written


def second_models(subject: Subject) -> Iterator[Caution]:
    """Models on a GPU beside the measured one: vLLM takes its share of the memory whatever else is there."""
    arguments = {**subject.config.engine.args, **subject.model.spec.engine_args}
    for second in subject.suite.needs.models:
        limited = arguments.keys() & {"gpu_memory_utilization", "kv_cache_memory_bytes"}
        if not second.during or second.device == "cpu" or limited:
            continue
        size = "memory" if second.weight_bytes is None else f"{second.weight_bytes / GIB:.1f} GiB of weights"
        role = second.role.replace("_", " ")
        yield subject.caution(
            "second_model",
            f"suite {subject.suite.name} asks its {role} ({second.path}), with {size} on {second.device}, of "
            f"which vLLM takes {UTILIZATION:.0%}: leave it room by gpu_memory_utilization in engine.args",
        )


def prompt_ends(subject: Subject) -> Iterator[Caution]:
    """Special tokens that the tokenizer puts around texts, where lm-eval and agents would differ by them."""
    tokenizer = _tokenizer(subject.folder) if subject.folder else None
    if subject.folder is None or tokenizer is None:
        return
    name, bare = subject.model.spec.name, tokenizer.encode("x", add_special_tokens=False).tokens
    before, _, after = _around(tokenizer.encode("x").tokens, bare)
    if after:
        yield subject.caution(
            "appended_tokens",
            f"the tokenizer of model {name} ends every text with {' '.join(after)}, which is taken off here: "
            "lm-eval continues and scores it unless its add_bos_token is False",
        )
    template = checkpoint.chat_template(subject.folder)
    if not before or template is None or not subject.suite.needs.chat_template:
        return
    if not any(text in template for text in ("bos_token", before[0])):
        yield subject.caution(
            "bos_in_chat",
            f"the tokenizer of model {name} begins texts with {before[0]}, and its chat template does not "
            "write it: conversations are sent as the template begins them, where lm-eval puts "
            f"{before[0]} before them; correct the template if the model was trained with it",
        )


def _around(whole: list[str], part: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What stands before and after a part of a list; neither where it is no part of it."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return whole[:start], part, whole[start + len(part) :]
    return [], whole, []


MOST_TOKENS = 4
"""Tokens of a character, at most: tokenizers fall back on the bytes of UTF-8."""


@cache
def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint, None where it has none that is quickly read."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.is_file() else None


CHECKS: tuple[Callable[[Subject], Iterator[Caution]], ...] = (
    endpoint_cannot,
    server_renders,
    special_tokens_read,
    no_parser,
    chat_template,
    too_long_context,
    longest_prompt,
    second_models,
    prompt_ends,
    no_chat_template_applied,
    variant_without_template,
    scored_in_a_thought,
    thinking_budget,
    thoughts_in_answers,
    greedy_attempts,
    greedy_thinking,
)
"""The checks of a cell, in the order in which they are told."""


def not_current(models: Sequence[ModelSpec]) -> Iterator[Caution]:
    """The best of an origin is the best of what was measured, which may be last year's."""
    if len({spec.origin.country for spec in models if spec.origin.stated}) < 2:
        return
    for name, leader in behind(models, specs()).items():
        yield Caution(
            check="not_current",
            text=f"{name} does not lead its family any more, {leader} does: where origins are compared by "
            f"their best models, add {leader}, or speak of the models alone",
            model=name,
        )


def preflight(
    config: RunConfig, models: Iterable[PlannedModel], suites: Iterable[Suite]
) -> Iterator[Caution]:
    """Everything that the checks find, suites first, then models, then each model on each suite."""
    suites, models = list(suites), list(models)
    for suite in suites:
        yield from suite.cautions(config)
    yield from not_current([model.spec for model in models])
    for model in models:
        for suite in suites:
            subject = Subject(config, model, suite, model.folder)
            for check in CHECKS:
                yield from check(subject)
