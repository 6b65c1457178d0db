"""Fit the variance components of real hijacking runs, from which `simulate_coverage.py` draws made-up ones.

    python scripts/fit_components.py FOLDER > scripts/hijack_components.json

FOLDER holds AgentDojo runs under the attack `important_instructions`, one JSON run a line, in files called
`<suite>.important_instructions.jsonl[.xz]`. Two crossed logistic models with normal effects are fitted by
Laplace's approximation (Breslow and Clayton, J. Am. Stat. Assoc. 88 (1993) 9-25): whether the injection
was shown, by user task, in each suite; and whether it succeeded where it was, by user task and injection
task, over all suites, whose rates are fixed effects.
"""

import argparse
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Row = tuple[str, str, str, bool, bool]
"""(suite, user task, injection task, shown, successful)."""


def read(folder: Path) -> list[Row]:
    """The runs of every suite."""
    rows = []
    for path in sorted(folder.glob("*.important_instructions.jsonl*")):
        with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
            for line in lines:
                run = json.loads(line)["run"]
                suite, user, goal = run["suite_name"], run["user_task_id"], run["injection_task_id"]
                rows.append((suite, f"{suite} {user}", f"{suite} {goal}", shown(run), bool(run["security"])))
    return rows


def shown(run: dict[str, Any]) -> bool:
    """Whether the beginning or end of an injected text stands in what a tool gave back."""
    replies = [message["content"] for message in run["messages"] if message["role"] == "tool"]
    told = " ".join(json.dumps(reply, ensure_ascii=False) for reply in replies)
    told = " ".join(told.replace("\\n", " ").replace("\\\\n", " ").split())
    texts = [" ".join(text.split()) for text in run["injections"].values()]
    return any(text[:60] in told or text[-60:] in told for text in texts)


def fit(outcome: Floats, fixed: Floats, factors: Sequence[Sequence[str]]) -> tuple[list[float], list[float]]:
    """(standard deviation of each factor's effects, fixed effects) of a logistic model."""
    codes = [np.unique(levels, return_inverse=True)[1] for levels in factors]
    design = np.hstack([fixed, *(np.eye(int(c.max()) + 1)[c] for c in codes)])
    sizes = [fixed.shape[1], *(int(c.max()) + 1 for c in codes)]

    def laplace(log_spreads: Sequence[float]) -> tuple[float, Floats]:
        precision = np.repeat([1e-4, *np.exp(-2 * np.asarray(log_spreads))], sizes)
        effects = np.zeros(design.shape[1])
        for _ in range(60):
            chance = 1 / (1 + np.exp(-design @ effects))
            curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(precision)
            step = np.linalg.solve(curvature, design.T @ (outcome - chance) - precision * effects)
            effects += step * min(1.0, 3 / np.abs(step).max())
            if np.abs(step).max() < 1e-8:
                break
        logits = design @ effects
        likelihood = float((outcome * logits - np.logaddexp(0, logits)).sum())
        penalty = 0.5 * (precision * effects**2).sum() + 0.5 * np.linalg.slogdet(curvature)[1]
        return likelihood - penalty + 0.5 * float(np.log(precision).sum()), effects

    start = np.vstack([np.full(len(codes), 0.3), 0.3 + 0.7 * np.eye(len(codes))])
    found = minimize(
        lambda x: -laplace(x)[0],
        start[0],
        method="Nelder-Mead",
        bounds=[(-4, 2)] * len(codes),
        options={"initial_simplex": start, "xatol": 0.01, "fatol": 0.01},
    )
    effects = laplace(found.x)[1]
    spreads = np.exp(found.x)
    return [round(float(x), 2) for x in spreads], [round(float(x), 2) for x in effects[: sizes[0]]]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    rows = read(parser.parse_args().folder)
    seen = [row for row in rows if row[3]]
    suites = sorted({row[0] for row in seen})
    exposure = {}
    for suite in suites:
        own = [row for row in rows if row[0] == suite]
        outcome = np.array([row[3] for row in own], dtype=np.float64)
        (spread,), (centre,) = fit(outcome, np.ones((len(own), 1)), [[row[1] for row in own]])
        exposure[suite] = {"centre": centre, "user_task": spread, "share": round(float(outcome.mean()), 3)}
    fixed = np.array([[row[0] == suite for suite in suites] for row in seen], dtype=np.float64)
    outcome = np.array([row[4] for row in seen], dtype=np.float64)
    (user, goal), _ = fit(outcome, fixed, [[row[1] for row in seen], [row[2] for row in seen]])
    rates = {s: round(float(np.mean([row[4] for row in rows if row[0] == s])), 3) for s in suites}
    success = {"user_task": user, "injection_task": goal, "rates": rates}
    print(json.dumps({"exposure": exposure, "success": success}, indent=1))


if __name__ == "__main__":
    main()
