"""Models, suites and this machine: `models`, `pin`, `suites`, `doctor`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from harness.cli.shared import (
    examples,
    new_console,
    print_lines,
)


def add(commands: Any) -> None:
    """Add the commands to the command line."""
    models = commands.add_parser(
        "models",
        help="list the models of the registry, or look into them",
        **examples("harness models", "harness models inspect qwen3-8b"),
    )
    models.set_defaults(command=models_command)
    what = models.add_subparsers(metavar="WHAT")
    inspect = what.add_parser(
        "inspect",
        help="what a checkpoint says about itself, weights unread",
        **examples("harness models inspect qwen3-8b", "harness models inspect ./checkpoint --json"),
    )
    inspect.add_argument("target", metavar="PATH_OR_ID", help="a folder, a hub id, or a name of the registry")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(command=inspect_command)
    add = what.add_parser(
        "add",
        help="propose a spec for a model of your own, from its small files",
        **examples(
            "harness models add Qwen/Qwen3-8B", "harness models add ./checkpoint --name mine --out mine.yaml"
        ),
    )
    add.add_argument("target", metavar="PATH_OR_ID", help="a folder, or a hub id")
    add.add_argument("--name", help="how tables call it (default: the last part of PATH_OR_ID)")
    add.add_argument("--out", type=Path, metavar="FILE", help="the spec (default: <name>.yaml)")
    add.set_defaults(command=add_command)
    what.add_parser(
        "check",
        help="list facts that are missing from the registry, and tool calls that parsers misread",
        **examples("harness models check", "harness models check | grep mistral"),
    ).set_defaults(command=check_command)
    what.add_parser(
        "tree",
        help="show which models derive from which",
        **examples("harness models tree", "harness models tree | less"),
    ).set_defaults(command=tree_command)

    pin = commands.add_parser(
        "pin",
        help="write the hub commits of models into their files",
        **examples("harness pin qwen3-8b", "harness pin my-run.yaml"),
    )
    pin.add_argument("target", metavar="CONFIG|MODEL", help="a run config, or a model of the registry")
    pin.set_defaults(command=pin_command)

    suites = commands.add_parser(
        "suites",
        help="list the suites of the registry, and the adapters",
        **examples("harness suites", "harness suites | grep lm_eval"),
    )
    suites.set_defaults(command=suites_command)

    doctor = commands.add_parser(
        "doctor",
        help="say what this machine has, and what is missing",
        **examples("harness doctor", "harness doctor | grep !!"),
    )
    doctor.set_defaults(command=doctor_command)


def models_command(args: argparse.Namespace) -> None:
    """`harness models`."""
    from harness.models.inspection import list_lines

    print_lines(list_lines())


def inspect_command(args: argparse.Namespace) -> None:
    """`harness models inspect`."""
    import msgspec

    from harness.models.inspection import inspect

    inspection = inspect(args.target)
    if args.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(inspection)).decode() + "\n")
    else:
        print_lines(inspection.lines())


def add_command(args: argparse.Namespace) -> None:
    """`harness models add`."""
    from harness.models.proposal import add

    print_lines(add(args.target, args.name, args.out))


def check_command(args: argparse.Namespace) -> None:
    """`harness models check`."""
    from harness.models.parsers import limit_lines
    from harness.models.registry import check_lines, specs

    models = list(specs())
    print_lines([*check_lines(models), "parsers of tool calls (vLLM 0.32):", *limit_lines(models)])


def tree_command(args: argparse.Namespace) -> None:
    """`harness models tree`."""
    from harness.models.registry import specs, tree_lines

    print_lines(tree_lines(specs()))


def pin_command(args: argparse.Namespace) -> None:
    """`harness pin`."""
    from harness.models.pin import pin

    print_lines(pin(args.target))


def suites_command(args: argparse.Namespace) -> None:
    """`harness suites`."""
    from harness import config as configs
    from harness.suites import adapters

    console = new_console()
    for name in configs.names("suites"):
        spec = configs.Document(configs.registry() / "suites" / f"{name}.yaml").data
        options = ", ".join(f"{k}={v}" for k, v in spec.items() if k != "adapter")
        console.print(
            f"{name:<24} {spec['adapter']}: {options}", markup=False, highlight=False, soft_wrap=True
        )
    console.print(
        f"adapters: {', '.join(adapters())} (any lm-eval task, any AgentDojo suite), or package.module "
        "of your own",
        highlight=False,
        soft_wrap=True,
    )


def doctor_command(args: argparse.Namespace) -> None:
    """`harness doctor`."""
    from harness.run.doctor import examine, next_step

    console = new_console()
    findings = list(examine())
    for finding in findings:
        mark, remedy = ("ok", "") if finding.good else ("!!", f"; {finding.remedy}")
        console.print(f"{mark}  {finding.text}{remedy}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"next: {next_step(findings)}", markup=False, highlight=False, soft_wrap=True)
