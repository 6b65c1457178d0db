"""Print the folder tree of the repository, one clause a file.

The clause of a Python file is the first sentence of its docstring; the others are written down here.

    python scripts/tree.py
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FOLDERS = {
    "harness": "the package; a module imports only from rooms above its own",
    "configs": "what ships with the harness",
    "configs/models": "one file a released checkpoint: origin, licence, parsers, with sources",
    "configs/suites": "one file a suite; lm_eval_local/ holds lm-eval tasks on local files",
    "configs/runs": "run configs: demo, real data, hijack on a GPU box",
    "results": "runs go here; demo/ is the worked example of the README",
    "scripts": "installing, training the planted models, benchmarks",
    "tests": "mirrors harness/",
}
"""What stands beside the folders that are not described by an `__init__.py`."""


def clause(path: Path) -> str:
    """The first sentence of a Python file's docstring, without its full stop.

    Raises:
        SystemExit: the file has no docstring.
    """
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf8")))
    if not docstring:
        sys.exit(f"{path} has no docstring")
    first = " ".join(docstring.split("\n\n")[0].split())
    return first.split(". ")[0].rstrip(".")


def package(folder: Path, depth: int) -> Iterator[tuple[str, str]]:
    """(indented name, clause) of a package and everything in it, packages after modules."""
    init = folder / "__init__.py"
    label = FOLDERS.get(str(folder.relative_to(ROOT))) or clause(init)
    yield "  " * depth + f"{folder.name}/", label
    for path in sorted(folder.glob("*.py")):
        if path != init:
            yield "  " * (depth + 1) + path.name, clause(path)
    for path in sorted(p.parent for p in folder.glob("*/__init__.py")):
        yield from package(path, depth + 1)


def lines() -> Iterator[str]:
    """The tree, names in one column and clauses in the next."""
    rows = list(package(ROOT / "harness", 0))
    for folder, label in FOLDERS.items():
        if folder != "harness":
            rows.append(("  " * folder.count("/") + folder.rsplit("/", 1)[-1] + "/", label))
            if folder == "scripts":
                rows += [("  " + p.name, clause(p)) for p in sorted((ROOT / folder).glob("*.py"))]
    width = max(len(name) for name, _ in rows)
    return (f"{name:<{width}}  {label}" for name, label in rows)


if __name__ == "__main__":
    print("\n".join(lines()))
