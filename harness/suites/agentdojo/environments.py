"""Environments of AgentDojo's suites: equal to those that it loads itself, at a fraction of the cost.

AgentDojo puts the injections into the text of a YAML file, parses it all and validates every address in
it again, for every attempt. Here the file is parsed once, and then only the scalars that an injection
stands in.
"""

import pickle
from collections.abc import Iterator, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any

from harness.suites.agentdojo.patches import Draws, remembered_addresses
from harness.suites.agentdojo.yaml_text import parse
from harness.types import Struct

Path = tuple[str | int, ...]


class Slot(Struct):
    """A scalar of the file that injections are put into."""

    path: Path
    source: str
    """As it stands in the file, quotes included, with a {placeholder} for each injection vector."""
    vectors: frozenset[str]


class Template:
    """The environment file of one suite."""

    def __init__(self, dojo: Any, *, draws: bool = False) -> None:
        """Args: dojo: an AgentDojo task suite; draws: whether its environment may draw at random."""
        self._type = dojo.environment_type
        self._text = environment_text(dojo)
        self._defaults: dict[str, str] = dojo.get_injection_vector_defaults()
        self._data = parse(self._text.format(**self._defaults))
        self._plain = self._type.model_validate(self._data)
        # An environment that draws something is made anew each time.
        self._draws = draws and self._varies()
        self._slots = list(_slots(self._text))
        names = [name for slot in self._slots for name in _placeholders(slot.source)]
        self._sliceable = len(names) == len(_placeholders(self._text))
        # A field may stand for itself only where the environment has no rule over several fields.
        fields = set(self._type.model_fields)
        ruled = self._type.__pydantic_decorators__.model_validators
        self._by_field = not ruled and self._data.keys() <= fields
        self._pickled = lru_cache(maxsize=1024)(self._load)
        # Few, for objects are what the garbage collector walks through.
        self._shared = lru_cache(maxsize=16)(self._injected_and_validated)

    def load(self, injections: Mapping[str, str]) -> Any:
        """A fresh environment with the injections in place of the harmless texts."""
        if self._draws:
            return self._type.model_validate(self._injected(dict(injections)))
        return pickle.loads(self._pickled(tuple(sorted(injections.items()))))

    def look(self, injections: Mapping[str, str]) -> Any:
        """The same for those who change nothing: others are given it too, or parts of it."""
        return self._shared(tuple(sorted(injections.items())))

    def _varies(self) -> bool:
        made = []
        for seed in "ab":
            with Draws(seed):
                made.append(self._type.model_validate(self._data).model_dump())
        return bool(made[0] != made[1])

    def _load(self, injections: tuple[tuple[str, str], ...]) -> bytes:
        return pickle.dumps(self._shared(injections), -1)

    def _injected_and_validated(self, injections: tuple[tuple[str, str], ...]) -> Any:
        return self._validated(self._injected(dict(injections)))

    def _injected(self, injections: dict[str, str]) -> Any:
        """What the YAML file holds. What no injection touches is the very object of `self._data`."""
        texts = {**self._defaults, **injections}
        # A quote or a backslash would end the scalar or escape what follows.
        if not self._sliceable or any(c in text for text in injections.values() for c in '"\\'):
            return parse(self._text.format(**texts))
        data = self._data
        for slot in self._slots:
            if slot.vectors & injections.keys():
                data = replaced(data, slot.path, parse(slot.source.format(**texts)))
        return data

    def _validated(self, data: Any) -> Any:
        if self._by_field:
            known = self._data
            data = {k: getattr(self._plain, k) if v is known.get(k) else v for k, v in data.items()}
        with remembered_addresses():
            return self._type.model_validate(data)


def replaced(data: Any, path: Path, value: Any) -> Any:
    """Nested data with one value changed; what is not on the path is shared with the original."""
    if not path:
        return value
    head, *rest = path
    copy = data.copy()
    copy[head] = replaced(data[head], tuple(rest), value)
    return copy


def environment_text(dojo: Any) -> str:
    """The suite's environment as YAML, with a {placeholder} for each injection vector."""
    from agentdojo.task_suite.task_suite import read_suite_file

    return str(read_suite_file(dojo.name, "environment.yaml", dojo.data_path))


def _slots(text: str) -> Iterator[Slot]:
    import yaml

    for path, node in _scalars(yaml.compose(text, yaml.CSafeLoader), ()):
        source = text[node.start_mark.index : node.end_mark.index]
        vectors = frozenset(_placeholders(source)) if node.style == '"' else frozenset()
        if vectors:
            yield Slot(path=path, source=source, vectors=vectors)


def _scalars(node: Any, at: Path) -> Iterator[tuple[Path, Any]]:
    """Every scalar value of a YAML node with its path. Values under a key that is no text are left out."""
    if node.id == "mapping":
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:str":
                yield from _scalars(value, (*at, key.value))
    elif node.id == "sequence":
        for index, value in enumerate(node.value):
            yield from _scalars(value, (*at, index))
    else:
        yield at, node


def _placeholders(text: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]
