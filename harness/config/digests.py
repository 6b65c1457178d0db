"""Resolved configs as text: what is kept with results, and what tells two of them apart."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.config.paths import as_written
from harness.config.schemas import RunConfig


def to_yaml(config: RunConfig) -> str:
    """The resolved config as YAML; reading it again gives an equal one."""
    import yaml

    return str(yaml.safe_dump(_flat(config), sort_keys=False, allow_unicode=True, width=100))


def _flat(config: RunConfig) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(config)
    for model in data["models"]:
        model["path"] = as_written(model["path"])
        if model["adapter"]:
            model["adapter"] = as_written(model["adapter"])
        else:  # as configs were before there were adapters
            del model["adapter"], model["adapter_revision"]
        del model["lines"]
    if data["sample"] is None:
        del data["sample"]
    data["suites"] = [
        {"adapter": s["adapter"], "name": s["name"]}
        | _judge(s["judge"])
        | {key: as_written(value) if isinstance(value, str) else value for key, value in s["options"].items()}
        for s in data["suites"]
    ]
    return data | _judge(data.pop("judge"))


def _judge(named: list[str]) -> dict[str, list[str]]:
    return {"judge": [as_written(name) for name in named]} if named else {}


def digest(config: RunConfig) -> str:
    """First 12 hex digits of the SHA-256 of everything that the config says about results.

    The concurrency is left out: it changes how fast a run is, not what it measures. So is the price. The day
    is left out too, so that a run that was begun yesterday is found again, and so are judges: they read what
    was measured, and another one may be asked.
    """
    data = _flat(config)
    del data["engine"]["max_concurrency"], data["description"], data["price_per_gpu_hour"], data["date"]
    for place in (data, *data["suites"]):
        place.pop("judge", None)
    data = msgspec.to_builtins(data, str_keys=True)  # layouts are named by a number of GPUs
    return hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()[:12]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys, in order, whose values differ; those that one of them has not, too."""
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
