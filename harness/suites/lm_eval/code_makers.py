"""Functions of lm-eval's tasks that make code of text, such as a model's reply, and say nothing of it.

A task that runs programs should say `unsafe_code`. Some do not, and a task file that includes one may take
the word back. So the functions themselves are looked at.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

MAKES_CODE = frozenset(
    {"eval", "exec", "parse_expr", "sympify", "subprocess", "Popen", "system", "popen"}
    | {"builtins", "__builtins__", "__import__", "import_module", "FunctionType"}
)
"""What turns text into something that runs, and the roads to that by another name. SymPy's two are `eval`
after some rewriting; its `parse_latex` hands it nothing but numbers."""

FINDS_CODE = frozenset({"evaluate", "unitxt"})
"""Libraries that find code by a name: a metric in the working directory or on the hub, an operator in a
recipe that a task file states."""


def makes_code(config: Any, by: frozenset[str] = MAKES_CODE) -> str | None:
    """`function calls name`, for the first function of lm-eval's that a task can reach and that makes code.

    Functions that lie elsewhere than with lm-eval's tasks are not looked at: their owner vouches for them.

    Args:
        config: of a task, with its functions in place of their names.
        by: names by which it is made.
    """
    seen: set[int] = set()
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, partial):
            waiting.append(value.func)
        elif isinstance(value, type) and _shipped(vars(value).get("__module__")):
            waiting += vars(value).values()
        elif isinstance(value, FunctionType) and _shipped(value.__module__):
            names = set(_names(value.__code__))
            if calls := sorted(names & by):
                return f"{value.__name__} calls {calls[0]}"
            waiting += _reached(names, value.__globals__)
    return None


def _reached(names: set[str], there: Mapping[str, Any]) -> Iterator[Any]:
    """What names mean among these globals, and in the modules of lm-eval's that are among them."""
    for name in names & there.keys():
        value = there[name]
        yield value
        if isinstance(value, ModuleType) and _shipped(value.__name__):
            yield from (vars(value)[other] for other in names & vars(value).keys())


def _names(code: CodeType) -> Iterator[str]:
    """The names of others that a function uses, and the functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _shipped(module: Any) -> bool:
    return isinstance(module, str) and module.startswith("lm_eval.tasks.")
