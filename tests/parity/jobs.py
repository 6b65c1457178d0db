"""What both sides are asked."""

import json
from pathlib import Path
from typing import Any

from harness.config import registry
from tests.conftest import shared_data
from tests.parity.sides import SHIPPED, Job

LOCAL = registry() / "suites" / "lm_eval_local"

SYSTEM = "You are careful, and answer in as few words as you can."


def invented(data: Path) -> list[Job]:
    """Every type of output on invented documents, with and without solved examples and chat template."""
    return [
        Job("parity_letter", data),
        Job("parity_letter", data, num_fewshot=2, chat=True, multiturn=True),
        Job("parity_ending", data),
        Job("parity_ending", data, num_fewshot=2),
        Job("parity_ending", data, num_fewshot=1, chat=True, system=SYSTEM),
        Job("parity_begun", data, num_fewshot=1),
        Job("parity_begun", data, num_fewshot=1, chat=True, multiturn=True),
        Job("parity_word", data, system=SYSTEM),
        Job("parity_text", data),
        Job("parity_sum", data, num_fewshot=2),
        Job("parity_sum", data, num_fewshot=1, chat=True, multiturn=True),
    ]


def write_invented(folder: Path) -> None:
    """The documents of the tasks `parity_*`."""
    people, things = ("A man", "Two women", "The dog", "Her aunt"), ("roof", "river", "piano", "cake", "road")
    stories = [
        {
            "start": f"{who} stood beside the {what}. Then {who.lower()}",
            "endings": [
                f"looked at the {what} for {n} minutes and went home",
                f"looked at the {what} and sang a song",
                "ate it",
            ],
            "label": (n + len(what)) % 3,
        }
        for n, (who, what) in enumerate((who, what) for what in things for who in people)
    ]
    sums = [{"a": a, "b": b, "sum": a + b} for a in range(3, 30, 4) for b in (2, 9, 15)]
    texts = [{"text": " ".join(s["start"] for s in stories[: n * 3 + 1])} for n in range(8)]
    rows: dict[str, list[dict[str, Any]]] = {
        "stories": stories[4:],
        "solved": stories[:4],
        "sums": sums[3:],
        "solved_sums": sums[:3],
        "texts": texts,
    }
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))


def own(name: str, limit: int, **more: Any) -> Job:
    """A task of this folder on public data."""
    return Job(name, shared_data("SOURCES.md").parent, limit=limit, **more)


def local(name: str, shipped: str, limit: int, **more: Any) -> Job:
    """One of lm-eval's own tasks on public data; `shipped` is where lm-eval has it."""
    return Job(name, shared_data("SOURCES.md").parent, (LOCAL, SHIPPED / shipped), limit=limit, **more)


def few_real() -> list[Job]:
    """Every type of output on a few public documents, for a context of 768 tokens, which not all fit into."""
    return [
        local("local_gsm8k", "gsm8k", 3, chat=True, system=SYSTEM),
        own("real_wording", 6, num_fewshot=1, chat=True, multiturn=True),
        local("local_arc_challenge", "arc", 6, num_fewshot=8),
        local("local_arc_challenge", "arc", 6, num_fewshot=2, chat=True, multiturn=True, system=SYSTEM),
        local("local_truthfulqa", "truthfulqa", 3),
        own("real_letters", 6, num_fewshot=5),
        own("real_spaces", 6),
        own("real_last_word", 8, num_fewshot=2),
        own("real_last_word", 8, chat=True, system=SYSTEM),
        own("real_no_context", 4),
        own("real_long_context", 4),
        own("real_solutions", 4),
    ]


def many_real() -> list[Job]:
    """Public data, as lm-eval's own tasks ask about them, and what those leave out."""
    return [
        local("local_gsm8k", "gsm8k", 24, num_fewshot=1),
        local("local_gsm8k", "gsm8k", 24, num_fewshot=2, chat=True, multiturn=True),
        local("local_gsm8k", "gsm8k", 8, num_fewshot=2, chat=True, system=SYSTEM),
        local("local_math500", "minerva_math", 8, num_fewshot=None),
        local("local_math500", "minerva_math", 8, num_fewshot=2, chat=True, multiturn=True),
        local("local_bbh", "bbh/cot_fewshot", 2, num_fewshot=None),
        local("local_bbh", "bbh/cot_fewshot", 2, num_fewshot=None, chat=True, multiturn=True),
        local("local_arc_challenge", "arc", 24),
        local("local_arc_challenge", "arc", 24, num_fewshot=3),
        local("local_arc_challenge", "arc", 24, chat=True, system=SYSTEM),
        local("local_hellaswag", "hellaswag", 24),
        local("local_hellaswag", "hellaswag", 24, num_fewshot=3),
        local("local_hellaswag", "hellaswag", 12, num_fewshot=3, chat=True, multiturn=True),
        local("local_hellaswag", "hellaswag", 3, num_fewshot=50),
        local("local_mmlu", "mmlu/default", 4),
        local("local_mmlu", "mmlu/default", 4, num_fewshot=2, chat=True, multiturn=True),
        local("local_truthfulqa", "truthfulqa", 16),
        local("local_truthfulqa", "truthfulqa", 8, chat=True),
        own("real_letters", 6, num_fewshot=60),
        own("real_wording", 24, num_fewshot=2),
        own("real_spaces", 24, num_fewshot=2),
        own("real_last_word", 48),
        own("real_last_word", 24, num_fewshot=2),
        own("real_last_word", 24, num_fewshot=2, chat=True, multiturn=True),
        own("real_no_context", 24),
        own("real_long_context", 6),
        own("real_solutions", 6),
    ]


def fewer_real() -> list[Job]:
    """Less of the same where generation is slow: no chains of thought of 1,024 tokens."""
    return [job._replace(limit=min(job.limit, 6)) for job in many_real() if job.task != "local_bbh"]


def programs() -> list[Job]:
    """Public tasks whose replies are run as programs."""
    return [
        local("local_humaneval", "humaneval", 6, code=True),
        local("local_mbpp", "mbpp", 6, num_fewshot=None, code=True),
    ]
