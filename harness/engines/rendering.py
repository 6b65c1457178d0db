"""Chat templates: whether they can show what a suite needs, and tools shown to them again and again."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from harness.engines.escapes import stands_in
from harness.engines.replies import message_to_openai
from harness.errors import UserError
from harness.types import Message, Variant

THOUGHTS = ("reasoning", "reasoning_content")
"""Keys by which templates read what the model thought before; vLLM gives them both."""
MAX_RECALLED = 1000
"""Characters of a text that is remembered as JSON: a description's. What a model writes may be longer."""


class Shown(dict[str, Any]):
    """A tool, or an object in it, as chat templates are shown it. It never changes."""

    def __init__(self, shown: dict[str, Any]) -> None:
        """Args: shown: as the chat completions API has it."""
        super().__init__({k: Shown(v) if isinstance(v, dict) else v for k, v in shown.items()})
        self._texts: dict[str, str] = {}
        """Options of the JSON -> the JSON."""


class RecallingFilter:
    """The filter `tojson`, which writes once what comes again and again: tools, their names, descriptions.

    Templates write them one by one, which takes longer than the rest of a turn's prompt.
    """

    def __init__(self, tojson: Callable[..., str]) -> None:
        """Args: tojson: the filter of the template's environment."""
        self._tojson = tojson
        self._of_text = lru_cache(maxsize=4096)(tojson)

    def __call__(self, value: Any, *arguments: Any, **options: Any) -> str:
        """The text that the filter itself gives."""
        has_arguments = bool(arguments or options)
        if type(value) is str and len(value) <= MAX_RECALLED and not has_arguments:
            return self._of_text(value)
        if not isinstance(value, Shown):
            return self._tojson(value, *arguments, **options)
        # Options by their types too: 1 is True as a key, and not as an indent.
        key = repr((arguments, sorted(options.items()))) if has_arguments else ""
        if key not in value._texts:
            value._texts[key] = self._tojson(value, *arguments, **options)
        return value._texts[key]


def begun_by(messages: Sequence[Message], system_prompt: str | None) -> Sequence[Message]:
    """A conversation whose system message begins with a variant's prompt."""
    if system_prompt is None:
        return messages
    if messages and messages[0].role == "system":
        first = msgspec.structs.replace(messages[0], content=f"{system_prompt}\n\n{messages[0].content}")
        return (first, *messages[1:])
    return (Message(role="system", content=system_prompt), *messages)


def render(
    apply_template: Callable[..., str],
    messages: Sequence[Message],
    variant: Variant,
    *,
    add_generation_prompt: bool,
) -> str:
    """A conversation as the text that a chat template makes of it for a variant of its model.

    Args:
        apply_template: `apply_chat_template` of the tokenizer.
        messages: the conversation, as a suite has it.
        variant: how the model is asked.
        add_generation_prompt: whether the turn of the model is begun.
    """
    conversation = [
        message_to_openai(message, arguments_as_text=False, thoughts=THOUGHTS)
        for message in begun_by(messages, variant.system_prompt)
    ]
    return apply_template(
        conversation,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        **variant.chat_template_kwargs,
    )


def recall_json(template: Any) -> None:
    """Let a template of transformers' write what is `Shown` once.

    Args:
        template: a tokenizer's `chat_template`: text, name -> text, or None.
    """
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    for text in template.values() if isinstance(template, dict) else filter(None, [template]):
        try:
            filters = _compile_jinja_template(text).environment.filters  # transformers keeps what it compiled
        except TemplateError:  # whoever chats with the model is told of it
            continue
        if not isinstance(filters["tojson"], RecallingFilter):
            filters["tojson"] = RecallingFilter(filters["tojson"])


def tell_day(tokenizer: Any, folder: Path, day: str) -> None:
    """Let the chat templates of a checkpoint write this day, whenever they are rendered in this process.

    Args:
        tokenizer: of the checkpoint.
        folder: of the checkpoint, where a processor may have a template of its own.
        day: ISO 8601.
    """
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    now = datetime.combine(date.fromisoformat(day), time(12))
    file = folder / "chat_template.json"
    of_processor = json.loads(file.read_bytes()).get("chat_template") if file.is_file() else None
    for given in (getattr(tokenizer, "chat_template", None), of_processor):
        for text in given.values() if isinstance(given, dict) else filter(None, [given]):
            try:
                compiled = _compile_jinja_template(text)  # transformers keeps what it compiled
            except TemplateError:  # whoever chats with the model is told of it
                continue
            compiled.environment.globals["strftime_now"] = now.strftime


def hiding_prompt(prompt: str | None, messages: Iterable[Message]) -> str | None:
    """The prompt, if a tool result of the conversation does not stand in it whole; None if all do.

    Args:
        prompt: as a chat template wrote it, None where it was written in code.
        messages: the conversation.
    """
    if prompt is None:
        return None
    for result in (message.content.strip() for message in messages if message.role == "tool"):
        # Most templates write a result as it is, or as JSON. To undo all escapes takes longer.
        quoted = json.dumps(result, ensure_ascii=False)[1:-1]
        if not (result in prompt or quoted in prompt or stands_in(result, prompt)):
            return prompt
    return None


def check_template(template: Any, *, tools: bool = True) -> None:
    """Refuse a model that has no chat template, or one that cannot show tools.

    Args:
        template: a tokenizer, or its `chat_template`: text, name -> text, or None.
        tools: whether tools are asked for.

    Raises:
        UserError: with the remedy.
    """
    source = template if isinstance(template, str | dict) or template is None else template.chat_template
    text = "\n".join(source.values()) if isinstance(source, dict) else source
    if not text:
        raise UserError(
            "the model has no chat template, which this suite needs: choose its instruction-tuned"
            " variant, or add `chat_template` to its tokenizer_config.json"
        )
    if tools and not re.search(r"\btools\b", text):
        raise UserError(
            "the model's chat template does not show tools, which this suite needs: choose a model"
            " whose template refers to `tools`, or leave this suite out for it"
        )
