"""Starting vLLM: its arguments checked, its core process launched, what it runs on read back."""

import asyncio
import dataclasses
import difflib
import logging
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, get_args

from harness.bounded import bounded
from harness.engines.rendering import recall_json
from harness.engines.vllm.last_words import CONFIG, LastWords, shorten
from harness.engines.vllm.orphans import Guard
from harness.engines.vllm.pieces import Pieces
from harness.engines.vllm.placement import reserved_group
from harness.errors import AttemptFailure, EngineDead, UserError
from harness.memory import within_memory
from harness.models.adapter import Adapter
from harness.types import EngineFacts, FailureKind, Struct

CPU_KV_CACHE_BYTES = 1 << 30
"""Memory for the key-value cache where vLLM runs on a CPU and the spec does not say."""

RENDERING = "rendering the chat template"
TEMPLATE_MEMORY = 1 << 30
"""Bytes, beyond what the process has, in which a chat template must write a prompt."""

OWN_ARGUMENTS = {"model", "revision", "tokenizer_revision", "trust_remote_code", "reasoning_parser"}
"""Arguments of vLLM that the model's own spec already gives."""


QUIET_WARNINGS = (
    # torch deprecates names that vLLM's import touches.
    "ignore::FutureWarning:vllm.triton_utils.dispatcher",
    # A core process that is ended without ceremony leaves semaphores, which are then cleaned up.
    "ignore::UserWarning:multiprocessing.resource_tracker",
)
"""For the processes that are started from here."""


class Launch(Struct):
    """What is started."""

    model: str
    """Repository or folder."""
    revision: str | None
    tool_call_parser: str | None
    """As vLLM names it; None if the model has no tool calls."""
    reasoning_parser: str | None
    trust_remote_code: bool
    engine_args: dict[str, Any]
    """Further arguments of vLLM's `AsyncEngineArgs`."""


async def launch(what: Launch) -> tuple[Any, Guard]:
    """A started `AsyncLLM`, and what ends its core process with this one.

    The event loop keeps turning meanwhile; cancelling stops the core process.

    Raises:
        UserError: an argument, a parser or the model is not one that vLLM knows.
        EngineDead: the model could not be loaded (out of memory, for example).
    """
    _quiet_environment()
    guard = Guard("EngineCore")
    task = asyncio.ensure_future(asyncio.to_thread(_load, what))
    try:
        while not task.done():
            guard.watch()
            await asyncio.wait({task}, timeout=0.1)
        return task.result(), guard
    except BaseException:
        await _stop_loading(task, guard)
        raise


def lora_args(adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Arguments of vLLM for a model that some adapters may be put over."""
    if not adapters:
        return {}
    from vllm.config.lora import MaxLoRARanks

    rank = max(adapter.rank for adapter in adapters)
    fitting = [known for known in get_args(MaxLoRARanks) if known >= rank]
    if not fitting:
        raise UserError(
            f"vLLM serves LoRA adapters up to rank {max(get_args(MaxLoRARanks))}, and one has {rank}"
        )
    return {"enable_lora": True, "max_lora_rank": min(fitting), "max_loras": len(adapters)}


async def load_adapter(llm: Any, adapter: Adapter, number: int) -> Any:
    """Load an adapter into vLLM; returns the `LoRARequest` by which requests name it.

    Args:
        llm: a started `AsyncLLM`.
        adapter: the adapter.
        number: from 1; no two adapters of one `AsyncLLM` may have the same.

    Raises:
        UserError: vLLM cannot load it. A request that named it would end vLLM's core process.
    """
    from vllm.lora.request import LoRARequest

    request = LoRARequest(adapter.digest, number, str(adapter.folder))
    try:
        await llm.add_lora(request)
    except Exception as error:  # vLLM's core process sends the text of an error alone
        if llm.errored:
            raise EngineDead(f"vLLM's core process died of the adapter {adapter.folder}: {error}") from error
        raise UserError(f"vLLM cannot load the adapter {adapter.folder}: {shorten(str(error))}") from error
    return request


def chat_renderer(llm: Any, tool_call_parser: str | None, reasoning_parser: str | None) -> Any:
    """The renderer of chat requests that vLLM's server uses; it also holds the class of the parser.

    Raises:
        UserError: the tokenizer lacks what a parser needs.
    """
    from vllm.renderers.online_renderer import OnlineRenderer

    # Replies that they cannot read are reported in `parse_error`, not with a traceback. vLLM sets the
    # levels of its loggers anew when it starts, so this comes after.
    for name in ("vllm.tool_parsers", "vllm.reasoning", "vllm.parser"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    render_quickly(llm.renderer)
    try:
        return OnlineRenderer(
            llm.model_config,
            llm.renderer,
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
            enable_auto_tools=True,
            tool_parser=tool_call_parser,
            reasoning_parser=reasoning_parser,
        )
    except TypeError as error:
        raise UserError(f"the parsers do not fit the model: {shorten(str(error))}") from error


def render_quickly(renderer: Any) -> None:
    """Let vLLM's renderer of Hugging Face chat templates write tools and tokenise messages once.

    Templates are rendered in the event loop: one takes less time than its way to a thread and back. There
    it is bounded in time (in a program's main thread) and memory.
    """
    if type(renderer).__name__ != "HfRenderer":
        return
    from vllm.renderers.hf import safe_apply_chat_template

    async def apply_template(*arguments: Any, **options: Any) -> Any:
        # Harmless in trials, a template may write without an end where a conversation is longer.
        try:
            with bounded(RENDERING, FailureKind.ENGINE_ERROR), within_memory(TEMPLATE_MEMORY):
                return safe_apply_chat_template(*arguments, **options)
        except MemoryError:  # it holds all that was written: what is told of it is raised below, without it
            pass
        raise AttemptFailure(
            FailureKind.ENGINE_ERROR, f"{RENDERING} needs more than {TEMPLATE_MEMORY >> 20} MiB of memory"
        )

    pieces, tokenize = Pieces(renderer.get_tokenizer()), renderer._tokenize_prompt_async

    async def tokenize_in_pieces(prompt: Any, params: Any) -> Any:
        options = params.get_encode_kwargs()
        if options["add_special_tokens"] or params.return_token_offsets:
            return await tokenize(prompt, params)
        tokens = pieces.encode(prompt["prompt"])
        if options["truncation"] and len(tokens) > options["max_length"]:
            return await tokenize(prompt, params)
        return renderer._build_tokens_prompt(tokens, prompt)

    renderer._apply_chat_template_async = apply_template
    renderer._tokenize_prompt_async = tokenize_in_pieces
    recall_json(getattr(renderer.get_tokenizer(), "chat_template", None))


def facts(
    config: Any, tool_call_parser: str | None, reasoning_parser: str | None, prompts: dict[str, str]
) -> EngineFacts:
    """What the live configuration of vLLM says, and what `prompts` says about how they begin."""
    import vllm
    from vllm.platforms import current_platform

    model, cache, parallel = config.model_config, config.cache_config, config.parallel_config
    details = {
        "device": "cpu" if current_platform.is_cpu() else current_platform.get_device_name(),
        "dtype": model.dtype,
        "quantization": model.quantization,
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "enable_expert_parallel": parallel.enable_expert_parallel,
        "max_model_len": model.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "enable_prefix_caching": cache.enable_prefix_caching,
        "block_size": cache.block_size,
        "kv_cache_dtype": cache.cache_dtype,
        "kv_cache_memory_bytes": cache.kv_cache_memory_bytes,
        "gpu_memory_utilization": cache.gpu_memory_utilization,
        "attention_backend": config.attention_config.backend,
        "enforce_eager": model.enforce_eager,
        "max_lora_rank": config.lora_config and config.lora_config.max_lora_rank,
        "tool_call_parser": tool_call_parser,
        "reasoning_parser": reasoning_parser,
        **prompts,
    }
    shown = {key: str(value).removeprefix("torch.") for key, value in details.items() if value is not None}
    return EngineFacts(name="vllm", version=vllm.__version__, details=shown)


def max_candidates() -> int:
    """Most tokens whose log-probabilities one request may ask for by name."""
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    return int(MAX_LOGPROB_TOKEN_IDS)


@lru_cache(maxsize=1)
def last_words() -> LastWords | None:
    """What vLLM's processes said last; None where the user configures what vLLM logs."""
    return None if {"VLLM_LOGGING_LEVEL", CONFIG} & os.environ.keys() else LastWords()


def _quiet_environment() -> None:
    """What vLLM and torch say that is no error stays unsaid, unless the user set a level."""
    if words := last_words():
        words.forget()
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ.setdefault("PYTHONWARNINGS", ",".join(QUIET_WARNINGS))
        logging.getLogger("vllm").setLevel(logging.ERROR)
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def _load(what: Launch) -> Any:
    """Check the arguments and start an `AsyncLLM` (blocking)."""
    words = last_words()
    with words.heard() if words else nullcontext():
        return _start(what)


def _start(what: Launch) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    _check_engine_args(what.engine_args, [field.name for field in dataclasses.fields(AsyncEngineArgs)])
    _check_log_probabilities(what.engine_args)
    _check_parsers(what)
    defaults: dict[str, Any] = {"disable_log_stats": True, "use_tqdm_on_load": False}
    if current_platform.is_cpu():
        # One process less, and neither compilation nor a warm-up: 10 s to load a tiny model, not 18.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        defaults |= {"enforce_eager": True, "kv_cache_memory_bytes": CPU_KV_CACHE_BYTES}
        # A seeded request whose prompt is computed in two steps rewinds its random generator, which
        # torch cannot do on a CPU: vLLM's core process dies of it (0.32).
        defaults["enable_chunked_prefill"] = False
    own = {
        "model": what.model,
        "revision": what.revision,
        "tokenizer_revision": what.revision,
        "trust_remote_code": what.trust_remote_code,
        "reasoning_parser": what.reasoning_parser or "",
    }
    return _start_core(what.model, own | defaults | what.engine_args)


def _start_core(model: str, arguments: dict[str, Any]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        if group := reserved_group():
            arguments = arguments | {"distributed_executor_backend": "ray"}
        config = AsyncEngineArgs(**arguments).create_engine_config()
        if group:
            config.parallel_config.placement_group = group
    except (ValueError, TypeError, OSError, RuntimeError, LookupError) as error:
        why = shorten(str(error).split(" Supported architectures: ")[0])  # three hundred names
        raise UserError(f"vLLM cannot load {model}: {why}") from error
    # A Ctrl-C in the terminal reaches every process in it. The core and its workers inherit that it is
    # blocked, so that they go on until this process has decided what happens. The resource tracker is
    # started first because its start would unblock it.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return AsyncLLM.from_vllm_config(config, disable_log_stats=bool(arguments["disable_log_stats"]))
    except RuntimeError as error:
        words = last_words()
        why = str(words or "") or shorten(str(error))
        log = f" (its log: {words.keep()})" if words else ""
        raise EngineDead(f"{why}{log}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def shut_down(llm: Any, timeout: float | None = None) -> None:
    """End a started `AsyncLLM` for good. timeout: seconds that its core process has for that."""
    llm.shutdown(timeout=timeout)
    # Its destructor shuts down once more, which fails when the interpreter is on its way out.
    llm.shutdown = _do_nothing


def _do_nothing() -> None:
    pass


async def _stop_loading(task: asyncio.Task[Any], guard: Guard) -> None:
    """A thread cannot be cancelled, but it gives up when the core process that it waits for ends."""
    while not task.done():
        guard.terminate()
        await asyncio.sleep(0.1)
    guard.close()
    if task.exception() is None:
        shut_down(task.result())


def _check_engine_args(given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name in OWN_ARGUMENTS:
            raise UserError(f"engine_args: {name} is given by the model's own spec; remove it here")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
            hint = f"did you mean {', '.join(close)}?" if close else "see `vllm serve --help=all`"
            raise UserError(f"engine_args: vLLM has no argument {name!r}; {hint}")


def _check_log_probabilities(given: Mapping[str, Any]) -> None:
    # Other modes give logits, or what is left after temperature and top-k, in the same fields.
    mode = given.get("logprobs_mode", "raw_logprobs")
    if mode != "raw_logprobs":
        raise UserError(
            f"engine_args: logprobs_mode {mode!r} would be taken for log-probabilities of the model, "
            "and scores be wrong; remove it"
        )


def _check_parsers(what: Launch) -> None:
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    for key, name, known in (
        ("tool_call_parser", what.tool_call_parser, ToolParserManager.list_registered()),
        ("reasoning_parser", what.reasoning_parser, ReasoningParserManager.list_registered()),
    ):
        if name and name not in known:
            raise UserError(f"{key}: vLLM has no {name!r}; it has {', '.join(known)}")
