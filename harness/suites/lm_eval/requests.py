"""Putting lm-eval's requests to an engine, and the engine's answers back into them."""

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, TypeVar

import msgspec

from harness.engines.base import Engine
from harness.errors import UserError
from harness.suites.base import Render
from harness.types import LogLikelihood, Message, Sampling, Transcript

DEFAULT_MAX_GEN_TOKS = 256
"""lm-eval's budget of a reply where the task does not say."""

BUDGET_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the budget of a reply. The first one given counts, as in lm-eval."""

SAMPLING_KEYS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")

T = TypeVar("T")


def chat_template(render: Render) -> Callable[..., str]:
    """A model's chat template as lm-eval calls one: dicts in; an assistant's last message is left open."""

    def template(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        converted = [Message(role=m["role"], content=m["content"]) for m in messages]  # type: ignore[arg-type]
        text = render(converted, add_generation_prompt)
        return text if add_generation_prompt else leave_open(text, converted[-1].content)

    return template


def leave_open(text: str, last: str) -> str:
    """A rendered conversation up to the end of its last message, so that the model goes on with it.

    As `continue_final_message` of transformers: a template may strip the message.
    """
    start = text.rindex(last.strip())
    whole = last.lstrip()
    return text[: start + len(whole if text.startswith(whole, start) else last.strip())]


def reply_sampling(
    stated: Mapping[str, Any], max_gen_toks: int | None, sampling: Sampling, *, as_the_run: bool = False
) -> Sampling:
    """How a reply is drawn: as the task states, and otherwise as the run does.

    Args:
        stated: the task's `generation_kwargs`. `do_sample: false` means temperature 0.
        max_gen_toks: budget that replaces the task's.
        sampling: the run's.
        as_the_run: whether the run's sampling counts whatever the task states, its stop strings excepted.
    """
    stops = tuple(dict.fromkeys([*stop_strings(stated), *sampling.stop]))
    if as_the_run:
        return msgspec.structs.replace(sampling, max_tokens=max_gen_toks or sampling.max_tokens, stop=stops)
    own = {key: stated[key] for key in SAMPLING_KEYS if stated.get(key) is not None}
    if stated.get("do_sample") is False:
        own["temperature"] = 0.0
    if "top_k" in own:
        own["top_k"] = max(0, own["top_k"])  # -1 is another way of saying no limit
    return msgspec.structs.replace(sampling, **own, max_tokens=budget_of(stated, max_gen_toks)[0], stop=stops)


def budget_of(stated: Mapping[str, Any], max_gen_toks: int | None) -> tuple[int, str]:
    """(tokens of a reply, who says so): the suite's option, else the task, else lm-eval."""
    if max_gen_toks is not None:
        return max_gen_toks, "the suite's max_gen_toks"
    own = next((int(stated[key]) for key in BUDGET_KEYS if stated.get(key) is not None), None)
    return (DEFAULT_MAX_GEN_TOKS, "lm-eval's default") if own is None else (own, "its task")


def stop_strings(stated: Mapping[str, Any]) -> list[str]:
    """The strings that end a reply."""
    until = stated.get("until") or []
    return [text for text in ([until] if isinstance(until, str) else until) if text]


def by_context(instances: Sequence[Any]) -> list[list[int]]:
    """The places of requests that share a context; each text that is scored whole is one of its own."""
    contexts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, instance in enumerate(instances):
        rolling = instance.request_type == "loglikelihood_rolling"
        contexts[("text", str(place)) if rolling else ("context", instance.args[0])].append(place)
    return list(contexts.values())


def scoring(
    instances: Sequence[Any], places: Sequence[int], engine: Engine
) -> Coroutine[Any, Any, LogLikelihood | list[LogLikelihood]]:
    """The call that scores requests which share a context. places: theirs."""
    first = instances[places[0]]
    if first.request_type == "loglikelihood_rolling":
        return engine.score_rolling(first.args[0])
    return engine.score(first.args[0], [instances[place].args[1] for place in places])


def in_order(
    contexts: Sequence[Sequence[int]], answers: Sequence[LogLikelihood | list[LogLikelihood]]
) -> tuple[LogLikelihood, ...]:
    """What `scoring` gave for each of `by_context`, in the order of the requests."""
    by_place = {
        place: answer
        for places, given in zip(contexts, answers, strict=True)
        for place, answer in zip(places, given if isinstance(given, list) else [given], strict=True)
    }
    return tuple(by_place[place] for place in sorted(by_place))


@asynccontextmanager
async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> AsyncIterator[Awaitable[list[T]]]:
    """Results of calls made at once, to wait for inside. An error is raised when no call is left running."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        yield asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_generation_kwargs(name: str, task: Any) -> None:
    """Raises UserError if the task asks to draw its replies in a way that engines here do not have."""
    stated = (task.config.generation_kwargs or {}) if task.OUTPUT_TYPE == "generate_until" else {}
    known = {"until", "do_sample", *SAMPLING_KEYS, *BUDGET_KEYS}
    for key, value in stated.items():
        # One beam is no beam search.
        if key not in known and (key, value) != ("num_beams", 1):
            raise UserError(
                f"lm-eval task {name}: generation_kwargs {key}={value} cannot be done here: "
                f"known are {', '.join(sorted(known))}"
            )


def check_bos(name: str, instances: Sequence[Any], transcript: Transcript) -> None:
    """Raises UserError if a prompt began with more than one BOS token, as it was sent.

    Of whole texts lm-eval scores the BOS token that the tokenizer adds, after one that stands for the
    context: those two are meant.
    """
    scored = [i for i in instances if i.request_type != "generate_until"]
    likelihoods = [
        likelihood
        for instance, likelihood in zip(scored, transcript.loglikelihoods, strict=True)
        if instance.request_type == "loglikelihood"
    ]
    counts = [reply.bos_tokens for reply in transcript.generations] + [x.bos_tokens for x in likelihoods]
    sent = max((count for count in counts if count is not None), default=0)
    if sent > 1:
        raise UserError(
            f"suite {name}: prompts begin with {sent} BOS tokens, which models were not trained on: correct "
            "the chat template or the task, or set double_bos if it is meant"
        )


def answered(instances: Sequence[Any], transcript: Transcript) -> list[Any]:
    """Copies of a document's requests that carry the model's responses, as lm-eval's models give them.

    Raises:
        ValueError: the transcript does not hold one response for each request.
    """
    replies, likelihoods = iter(transcript.generations), iter(transcript.loglikelihoods)
    copies = []
    for instance in instances:
        filled = copy.copy(instance)
        filled.resps, filled.filtered_resps = [], {}
        if instance.request_type == "generate_until":
            stops = stop_strings(instance.args[1])
            filled.resps = [cut(reply.text, stops) for reply in islice(replies, instance.repeats)]
        elif (likelihood := next(likelihoods, None)) is not None:
            rolling = instance.request_type == "loglikelihood_rolling"
            response = likelihood.logprob if rolling else (likelihood.logprob, likelihood.is_greedy)
            filled.resps = [response] * instance.repeats
        copies.append(filled)
    if any(len(i.resps) != i.repeats for i in copies) or [*replies, *likelihoods]:
        raise ValueError("the transcript does not hold one response for each request")
    return copies


def cut(text: str, stops: Sequence[str]) -> str:
    """A reply up to the first stop string, whether or not the engine stopped there."""
    for stop in stops:
        text = text.split(stop)[0]
    return text
