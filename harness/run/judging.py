"""The judges of a plan: who reads the replies of which suites, when everything is measured."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.config import RunConfig
from harness.errors import UserError
from harness.judges.second_pass import not_told
from harness.judges.spec import JudgeSpec, load_judge
from harness.models.forecast import Request, gpu_problems
from harness.records.verdicts import is_judged
from harness.run.models import check_model
from harness.suites.base import Suite
from harness.types import Caution


@dataclass
class PlannedJudge:
    """A judge with the suites whose replies it is to read."""

    spec: JudgeSpec
    suites: list[str] = field(default_factory=list)
    download: str | None = None
    """What of it is not on this machine."""

    def about(self, check: str, text: str) -> Caution:
        """Why it cannot read. That is about no cell: replies are measured without it."""
        name = f"judge {self.spec.name}"
        return Caution(check=check, text=f"{name}: {text}", model=name, void=True)


class Unjudged(UserError):
    """The config names a judge that is none, or that tells nothing of what a suite counts."""


def plan_judges(suites: Iterable[Suite], asked: Mapping[str, Sequence[str]]) -> dict[str, PlannedJudge]:
    """What the config calls a judge -> the judge, with the suites that leave their replies to one.

    Args:
        suites: of the plan.
        asked: suite -> the judges that the config names for it.

    Raises:
        Unjudged: a judge is none, or tells nothing of what a suite counts.
    """
    judges: dict[str, PlannedJudge] = {}
    for suite in [suite for suite in suites if is_judged(suite.metrics)]:
        for name in asked[suite.name]:
            try:
                judge = judges.setdefault(name, PlannedJudge(load_judge(name)))
            except UserError as error:
                raise Unjudged(f"suite {suite.name}: key `judge`: {error}") from error
            if why := not_told(judge.spec, suite.metrics):
                raise Unjudged(f"suite {suite.name}: key `judge`: {why}")
            judge.suites.append(suite.name)
    return judges


def judges_of(config: RunConfig) -> list[JudgeSpec]:
    """The judges that a config names, for the run or for one suite. Raises UserError where one is none."""
    named = (*config.judge, *(name for suite in config.suites for name in suite.judge))
    return [load_judge(name) for name in dict.fromkeys(named)]


def waiting(suites: Iterable[Suite], asked: Mapping[str, Sequence[str]]) -> Iterator[Caution]:
    """The suites whose replies will wait for a judge, since the config names none."""
    for suite in [suite for suite in suites if is_judged(suite.metrics)]:
        if not asked[suite.name]:
            yield Caution(
                check="judge",
                text=f"suite {suite.name}: its replies wait for a judge: name one with the key `judge`, or "
                "run `harness judge DIR --judge NAME` afterwards",
                suite=suite.name,
            )


def check_judges(judges: Mapping[str, PlannedJudge]) -> Iterator[tuple[str, Caution]]:
    """(what the config calls it, why) for each judge whose model cannot be loaded, as far as files tell."""
    for name, judge in judges.items():
        spec = judge.spec
        if spec.model is None:
            continue
        read, problems = check_model(spec.model, spec.engine)
        yield from ((name, judge.about("judge", text)) for text in problems)
        if not problems and read.architecture is None and spec.engine.kind == "vllm":
            judge.download = f"{spec.model.path} is not on this machine"


def too_large(judges: Mapping[str, PlannedJudge], gpus: int) -> Iterator[tuple[str, Caution]]:
    """The same for each whose layout needs more GPUs than there are."""
    for name, judge in judges.items():
        spec = judge.spec
        if spec.model is not None and spec.engine.kind == "vllm":
            request = Request(spec.model, {**spec.engine.args, **spec.model.engine_args}, ())
            for _, text in gpu_problems([request], gpus):
                yield name, judge.about("too_few_gpus", text)
