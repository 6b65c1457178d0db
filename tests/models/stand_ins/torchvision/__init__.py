"""A torchvision with nothing in it, for classes that import it even where they serve text only.

PyPI's torchvision is linked to CUDA and does not load beside torch's build for a CPU.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

__version__ = "0.28.0"


class _Anything(type):
    """A class whose attributes are such classes."""

    def __getattr__(cls, name: str) -> Any:
        return _made(name)


class _Module(types.ModuleType):
    """A module whose attributes are such classes."""

    def __getattr__(self, name: str) -> Any:
        return _made(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module in torchvision."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if not name.startswith(f"{__name__}."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _made(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything(name, (), {})


def __getattr__(name: str) -> Any:
    return _made(name)


sys.meta_path.insert(0, _Finder())
