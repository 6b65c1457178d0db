"""What the code of others warns of, by its loggers or by Python's `warnings`: gathered, and not shown.

Checkers, filters, metrics and templates warn of what bears on a number. Runs score in threads and processes,
where nobody reads the terminal; so what a thread warns of is kept with what it works on.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

LONGEST = 300
"""Characters of a warning that are kept."""

ABOUT_CODE = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""What Python itself does not show: it is about code, and not about what that computes."""


@contextmanager
def gathered() -> Iterator[list[str]]:
    """While inside, what this thread warns of is kept here, one line each, however often it was said before.

    What other threads warn of meanwhile goes where it went.
    """
    thread, lines = threading.get_ident(), list[str]()
    with _lock:
        outer = _said.get(thread)
        if not _said:
            _installed.enter_context(_listening())
        _said[thread] = lines
    try:
        yield lines
    finally:
        with _lock:
            _said.pop(thread)
            if outer is not None:
                _said[thread] = outer
            if not _said:
                _installed.close()


_lock = threading.Lock()
_said: dict[int, list[str]] = {}
"""Thread -> what it warned of, of those that are inside of `gathered`."""
_installed = ExitStack()
"""What listens, which belongs to the whole process: the first one inside sets it up, the last one ends it."""


@contextmanager
def _listening() -> Iterator[None]:
    root, handler = logging.getLogger(), _Handler(logging.WARNING)
    handler.alone = not root.handlers
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for category in ABOUT_CODE:
            warnings.simplefilter("ignore", category)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if (lines := _said.get(threading.get_ident())) is not None:
                _keep(lines, f"{category.__name__}: {message}")
            else:
                shown(message, category, *place, **more)

        warnings.showwarning = show
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)


class _Handler(logging.Handler):
    """Of the root logger, to which all others pass on what they are told."""

    alone = False
    """Nobody else handles what is logged, so that Python's handler of last resort would."""

    def emit(self, record: logging.LogRecord) -> None:
        if (lines := _said.get(threading.get_ident())) is not None:
            _keep(lines, _text(record))
        elif self.alone and logging.lastResort is not None:
            logging.lastResort.handle(record)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit: logging itself would only print a traceback
        return str(record.msg)


def _keep(lines: list[str], text: str) -> None:
    lines.append(" ".join(text.split())[:LONGEST])
