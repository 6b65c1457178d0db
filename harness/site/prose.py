"""The pages that are mostly words: claims, the history of numbers, and what the site is."""

from collections.abc import Iterator, Sequence

from harness import __version__
from harness.analysis.claims import Claims
from harness.config import changed_keys
from harness.reports.claims_text import claim_answers, claim_cautions, claim_notes, claim_tables
from harness.reports.document import Document
from harness.site.board import Board, Number
from harness.site.downloads import File
from harness.site.page import Frame, column_axis, heading, model_path, shown
from harness.types import Struct

INSTRUMENTS = (
    (
        "Open weights lag behind by so many months",
        "lags",
        "the lag of the best of an origin behind the first model that was as able, with its interval",
        "an older model of the origin behind that is measured and is as able, or a newer one that leads",
    ),
    (
        "Models of one country are behind those of another",
        "gaps",
        "the best models of each compared by sample, with and without the luck of having been chosen",
        "another best model, or the same gap with an interval that holds 0 on new benchmarks",
    ),
    (
        "Some origins' agents are hijacked more often",
        "hijacking",
        "the ratio of pooled rates on the same attacks, and the same over models like these",
        "an interval of that ratio which holds 1, or attacks of another kind that turn it round",
    ),
    (
        "Tests by whole harmful goals miss who asks for harmless steps",
        "mismatches",
        "chains of steps completed less goals accepted, by campaign: the mismatch, by origin",
        "a mismatch whose interval holds 0, or agents that stop in harmless twins as often",
    ),
    (
        "Whoever fine-tunes a model takes its guardrails away",
        "guardrails",
        "each headline of safety of a model and of what was derived from it, paired, beside capability",
        "changes whose intervals hold 0, or guardrails that became stronger",
    ),
    (
        "A bigger model is a better one",
        "sizes",
        "the line of ability against parameters, for each doubling",
        "a line whose interval holds 0 once origin or release date is held fixed",
    ),
    (
        "Some origins' models do what harmful requests ask more often",
        "judged",
        "the best models of each compared by request, as judges see their "
        "replies, corrected by how often a judge errs",
        "an interval that holds 0, or a judge that errs more on one origin's replies",
    ),
    (
        "Models of a country write less about its own government",
        "contrasts",
        "by how much rates on two kinds of requests differ, between origins, on the same requests",
        "a difference whose interval holds 0, or one that another judge does not find",
    ),
    (
        "A safer model is a less useful one",
        "",
        "hijack rate against the user's task done, both with intervals: see the plots",
        "models in the best corner, or the same order of both rates",
    ),
)
"""(claim of the field, field of `Claims` with its numbers or nothing for what the plots show, its instrument,
what would change it)."""
SHOWN = 4
"""Sentences that a claim has in the first table; the tables below it have the others."""


class Moved(Struct):
    """A number that was another one before."""

    model: str
    path: str
    what: str
    steps: tuple[tuple[str, ...], ...]
    """(day, run, number, harness, engine, what changed), the newest first."""


def claims_page(frame: Frame, document: Document | None, left_out: Sequence[str], problem: str) -> str:
    """Each claim with its instrument and its number from these runs, but those that are left out."""
    claims: Claims | None = document.claims if document else None
    why = problem or (document.claims_problem if document else None)
    answers = claim_answers(claims) if claims else {}
    return frame.render(
        "claims.html.j2",
        "claims.html",
        "Claims",
        # Those that these runs are evidence for or against stand first.
        instruments=sorted(
            ((said, answers.get(field, []), how, what) for said, field, how, what in INSTRUMENTS),
            key=lambda one: not one[1],
        ),
        shown=SHOWN,
        cautions=[*left_out, *(claim_cautions(claims) if claims else [])],
        notes=claim_notes(claims) if claims else [],
        tables=claim_tables(claims) if claims else [],
        problem=why
        or (
            ""
            if claims
            else "There is too much here to compute them for a page: harness claims DIR does it for one run."
        ),
    )


def history_page(frame: Frame) -> str:
    """What moved, what was withdrawn and corrected, and every run."""
    board = frame.board
    runs = sorted(board.runs, key=lambda run: (run.created, run.name), reverse=True)
    return frame.render(
        "history.html.j2",
        "history.html",
        "History",
        moved=list(_moved(board)),
        withdrawn=board.settings.withdrawn,
        corrected=board.settings.corrected,
        runs=runs,
    )


def _moved(board: Board) -> Iterator[Moved]:
    for row in board.rows:
        for column in board.columns:
            if not column.metric.headline or column.id not in row.earlier:
                continue
            now = row.numbers.get(column.id)
            every = [*([now] if now else []), *row.earlier[column.id]]
            ends, said = column_axis(board, column), heading(board, column)
            steps = []
            for number, before in zip(every, [*every[1:], None], strict=True):
                cell = shown(number.estimate, column.metric, ends, None)
                text = f"{cell.value} {cell.interval} {cell.count}"
                steps.append(
                    (
                        number.created[:10],
                        number.run.name,
                        text,
                        number.run.harness_version,
                        _engine(number),
                        _change(number, before),
                    )
                )
            what = ", ".join((f"{said.suite}: {said.name}", *said.differs))
            yield Moved(model=row.called, path=model_path(row), what=what, steps=tuple(steps))


def _engine(number: Number) -> str:
    for cell in number.cells:
        model = number.run.models.get(cell.entry.model)
        if model and model.engine:
            return f"{model.engine.name} {model.engine.version}"
    return "not told"


def _change(number: Number, before: Number | None) -> str:
    if number.withdrawn:
        return f"withdrawn on {number.withdrawn.date}: {number.withdrawn.reason}"
    said = [f"corrected on {number.corrected.date}: {number.corrected.reason}"] if number.corrected else []
    if before is None:
        return "; ".join([*said, "the first number"])
    changed = []
    if number.run.harness_version != before.run.harness_version:
        changed.append("harness")
    if _engine(number) != _engine(before):
        changed.append("engine")
    changed += changed_keys(_details(before), _details(number))
    return "; ".join(
        [*said, f"changed: {', '.join(changed)}" if changed else "nothing that is told has changed"]
    )


def _details(number: Number) -> dict[str, str]:
    for cell in number.cells:
        model = number.run.models.get(cell.entry.model)
        if model and model.engine:
            return model.engine.details
    return {}


def about_page(frame: Frame, files: Sequence[File]) -> str:
    """What the site is, how it was made, and how to take its numbers away."""
    board, settings = frame.board, frame.board.settings
    packages: dict[str, dict[str, None]] = {}
    for run in board.runs:
        for name, version in {"harness": run.harness_version, **run.versions}.items():
            packages.setdefault(name, {})[version] = None
    return frame.render(
        "about.html.j2",
        "about.html",
        "About",
        refused=board.refused,
        packages=[(name, ", ".join(versions)) for name, versions in sorted(packages.items())],
        files=files,
        unexported=[run for run in board.runs if run.not_exported],
        bibtex=bibtex(frame),
        capability=[c for c in board.columns if c.id in board.capability],
        settings=settings,
    )


def bibtex(frame: Frame) -> str:
    """An entry for a bibliography."""
    settings = frame.board.settings
    fields = {
        "title": settings.title,
        "author": " and ".join(settings.authors),
        "year": frame.built[:4],
        "url": settings.url or "",
        "note": f"built on {frame.built} with harness {__version__}",
    }
    clean = {name: "".join(c for c in value if c not in "{}\\") for name, value in fields.items() if value}
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in clean.items())
    return f"@misc{{leaderboard,\n{lines}\n}}\n"


def citation(frame: Frame) -> str:
    """`CITATION.cff`."""
    import yaml

    settings = frame.board.settings
    fields = {
        "cff-version": "1.2.0",
        "message": "Please cite this leaderboard with the day on which it was built.",
        "type": "dataset",
        "title": settings.title,
        "authors": [{"name": name} for name in settings.authors or (settings.title,)],
        "date-released": frame.built,
        "version": frame.built,
        **({"url": settings.url} if settings.url else {}),
        **({"license": settings.licence} if settings.licence else {}),
    }
    return str(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))
