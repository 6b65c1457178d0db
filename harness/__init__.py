"""Load open-weight models through vLLM, measure capability and resistance to hijacking, compare origins."""

__version__ = "0.2.0"

_INTERFACE = ("Root", "Run", "evaluate", "open_root", "open_run")
"""Names of `harness.api`, which is imported when one of them is used: it needs pandas."""


def __getattr__(name: str) -> object:
    if name in _INTERFACE:
        from importlib import import_module

        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
