"""Groups of lm-eval's tasks: which suites are one benchmark, and the averages that lm-eval makes of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from harness.suites.lm_eval.metrics import metric_keys, metric_name
from harness.types import GroupMetric, SuiteGroup


def groups_of(
    top: str, suites: Mapping[str, str], tasks: Mapping[str, Any], groups: Mapping[str, Any], prefix: str
) -> tuple[SuiteGroup, ...]:
    """The groups of one entry of a run config, the whole of it first.

    Args:
        top: what the whole is called. A tag is a group too, of which lm-eval makes no average.
        suites: lm-eval's name of a task -> name of its suite.
        tasks: name -> lm-eval `Task`.
        groups: name -> lm-eval `Group`, the outermost first; empty for a tag.
        prefix: of the names of suites and inner groups.
    """
    if not groups:
        return (SuiteGroup(name=top, members=tuple(suites.values())),)
    names = {name: top if place == 0 else prefix + name for place, name in enumerate(groups)}
    return tuple(
        SuiteGroup(
            name=names[name],
            members=tuple(dict.fromkeys(suites[task.task_name] for task in group.get_all_tasks())),
            subgroups=tuple(names[inner.name] for inner in group.get_all_groups(recursive=False)),
            metrics=tuple(_group_metrics(group, suites, tasks)),
            version=group.version,
        )
        for name, group in groups.items()
    )


def _group_metrics(group: Any, suites: Mapping[str, str], tasks: Mapping[str, Any]) -> Iterator[GroupMetric]:
    """The averages of lm-eval's `Group.aggregate`: metric by metric, filter by filter."""
    members = list(dict.fromkeys(task.task_name for task in group.get_all_tasks()))
    scored = {name: metric_keys(tasks[name]) for name in members}
    for stated in group.aggregate_metric_list or ():
        filters = stated.filter_list
        if filters is None:
            filters = sorted({f for name in members for key, f in scored[name] if key == stated.metric})
        for filter_name in filters:
            holders = [name for name in members if (stated.metric, filter_name) in scored[name]]
            if holders:
                yield GroupMetric(
                    name=f"{stated.metric},{filter_name}",
                    weight_by_size=stated.weight_by_size,
                    members={
                        suites[name]: metric_name(tasks[name], stated.metric, filter_name) for name in holders
                    },
                )
