"""Reading and writing YAML, which is the dearest part of an attempt, faster and to the same effect."""

from typing import Any

MAX_DUMPED = 16_384
"""Tool results whose YAML is remembered."""


def parse(text: str) -> Any:
    """YAML as data, by the C parser."""
    import yaml

    return yaml.load(text, yaml.CSafeLoader)


def dump(value: Any, known: dict[str, str] = {}) -> str:  # noqa: B006  (shared on purpose)
    """The text of `yaml.safe_dump(value)`. A list is dumped item by item, which gives the same text."""
    if isinstance(value, list) and len(value) > 1:
        return "".join(dump([item]) for item in value)
    import yaml

    key = repr(value)
    if key not in known:
        if len(known) >= MAX_DUMPED:
            known.clear()
        known[key] = yaml.safe_dump(value)
    return known[key]
