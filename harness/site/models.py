"""A page for each model: what it is, what it came to, what failed, what it cost."""

from collections.abc import Iterator, Sequence

import msgspec

from harness.analysis.origins import CALLED
from harness.reports import text
from harness.site.board import Board, Number, Row, registry_nodes
from harness.site.page import Frame, Heading, Shown, badges, column_axis, heading, model_path, shown
from harness.types import Struct

DEPTH = 8
"""Derivations that a tree shows: a cycle is a mistake of whoever states it."""


class NumberLine(Struct):
    """A number on the page of its model."""

    heading: Heading
    cell: Shown
    run: str
    day: str
    attempts: tuple[tuple[str, str], ...]
    """(what they are called, address)."""
    corrected: str
    again: str
    method: str


class SuiteLine(Struct):
    """How a benchmark went."""

    suite: str
    run: str
    finished: str
    failures: str
    truncated: str
    cost: tuple[str, ...]


def model_page(frame: Frame, row: Row) -> str:
    """The page of a model."""
    board = frame.board
    numbers = [(column, row.numbers[column.id]) for column in board.columns if column.id in row.numbers]
    lines = [
        NumberLine(
            heading=heading(board, column),
            cell=shown(number.estimate, column.metric, column_axis(board, column), row.ranks.get(column.id)),
            run=number.run.name,
            day=number.created[:10],
            attempts=tuple((cell.entry.suite, f"attempts.html#cell={cell.id}") for cell in number.cells)
            if column.metric.headline
            else (),
            corrected=number.corrected.reason if number.corrected else "",
            again=_again(number),
            method=number.estimate.method,
        )
        for column, number in numbers
    ]
    headlines = [line for line, (column, _) in zip(lines, numbers, strict=True) if column.metric.headline]
    others = [line for line, (column, _) in zip(lines, numbers, strict=True) if not column.metric.headline]
    return frame.render(
        "model.html.j2",
        model_path(row),
        row.called,
        row=row,
        facts=list(_facts(row)),
        badges=list(badges([number for _, number in numbers], imported=row.model.imported)),
        headlines=headlines,
        others=others,
        suites=list(_suites([number for _, number in numbers])),
        variants=_variants(board, row),
        tree=_tree(row),
        earlier=sum(map(len, row.earlier.values())),
    )


def _again(number: Number) -> str:
    again, of = number.again
    return "all" if again == of else "none" if not again else f"{again} of {of}"


def _facts(row: Row) -> Iterator[tuple[str, str]]:
    model, facts = row.model, row.facts
    yield "Developer", f"{facts.developer} ({facts.country})"
    yield "Released", facts.released
    yield "Licence", facts.licence
    yield "Published", facts.openness
    yield CALLED["base"].capitalize(), facts.base
    if model.repository:
        yield "Weights", model.repository
    if (architecture := model.architecture) is not None:
        yield "Architecture", f"{architecture.model_class}, {text.format_type(architecture)}"
        yield "Parameters, total/active", text.format_params(architecture)
        yield "Size of the weights", text.format_bytes(architecture.weight_bytes)
        yield "Smallest GPU", facts.gpu
        if architecture.context_length:
            yield "Context", f"{architecture.context_length:,} tokens"
        if architecture.weights_hash:
            yield "SHA-256 of the weights", architecture.weights_hash
    if (engine := model.engine) is not None:
        yield "Engine", f"{engine.name} {engine.version}"
        yield "Mode", facts.mode
        yield "Quantised", facts.quantised
        details = ", ".join(f"{name} {value}" for name, value in sorted(engine.details.items()))
        if details:
            yield "Engine, in full", details
    hardware = {f"{name} {value}" for n in row.numbers.values() for name, value in n.run.hardware.items()}
    if hardware:
        yield "Ran on", ", ".join(sorted(hardware))


def _suites(numbers: Sequence[Number]) -> Iterator[SuiteLine]:
    """A line for each benchmark of each run."""
    seen: set[tuple[str, str]] = set()
    for number in numbers:
        suite, usage = number.suite, number.suite.usage
        if (suite.suite, number.run.name) in seen:
            continue
        seen.add((suite.suite, number.run.name))
        known = not any(cell.entry.protocol.get("imported") for cell in number.cells)
        yield SuiteLine(
            suite=suite.suite,
            run=number.run.name,
            finished=f"{suite.finished:,} of {suite.expected:,}",
            failures=", ".join(f"{kind} {count:,}" for kind, count in suite.failures.items()) or "none",
            truncated=f"{suite.truncated:,}",
            cost=(
                f"{usage.engine_seconds:.1f}" if known and usage.engine_seconds else "unknown",
                text.count(usage.prompt_tokens),
                text.count(usage.completion_tokens),
                text.format_energy(usage.joules),
            ),
        )


def _variants(board: Board, row: Row) -> list[tuple[str, str, str]]:
    """(name, address, how it is related) of models here that share weights with this one."""
    variants = []
    bases = {base.lower() for base in row.model.origin.base_models}
    names = {row.model.name.lower(), (row.model.repository or row.model.name).lower()}
    for other in board.rows:
        theirs = {base.lower() for base in other.model.origin.base_models}
        named = {other.model.name.lower(), (other.model.repository or other.model.name).lower()}
        if other is row:
            continue
        if other.model.name == row.model.name:
            variants.append((other.called, other.id, "other weights or precision under this name"))
        elif theirs & names:
            variants.append((other.called, other.id, "derived from it"))
        elif bases & named:
            variants.append((other.called, other.id, "what it was derived from"))
        elif bases & theirs:
            variants.append((other.called, other.id, "derived from the same weights"))
    return [(name, f"{other_id}.html", how) for name, other_id, how in variants]


def _tree(row: Row) -> list[tuple[int, str]]:
    """(depth, name) of the weights that a model goes back to, by what it says and by the registry."""
    nodes = registry_nodes()
    branches: list[tuple[int, str]] = []
    parents = row.model.origin.base_models
    if not parents and row.model.repository and (own := nodes.get(row.model.repository)):
        parents = tuple(parent.id for parent in own.parents)

    def add(name: str, depth: int) -> None:
        branches.append((depth, name))
        node = nodes.get(name)
        for parent in node.parents if node and depth < DEPTH else ():
            add(parent.id, depth + 1)

    for parent in parents:
        add(parent, 1)
    return branches


def model_data(board: Board, row: Row) -> bytes:
    """What the page of two models loads of one."""
    numbers = []
    for column in board.columns:
        if column.id not in row.numbers:
            continue
        number, estimate = row.numbers[column.id], row.numbers[column.id].estimate
        words = (text.format_interval(estimate, column.metric), text.format_count(estimate, column.metric))
        head = heading(board, column)
        numbers.append(
            {
                "column": column.id,
                "suite": head.suite,
                "metric": column.metric.name,
                "name": head.name,
                "differs": ", ".join(head.differs),
                "direction": head.direction,
                "share": text.is_share(column.metric),
                "said": " ".join(words),
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "cells": [{"id": cell.id, "suite": cell.entry.suite} for cell in number.cells],
            }
        )
    return msgspec.json.encode({"name": row.called, "numbers": numbers})
