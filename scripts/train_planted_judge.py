"""Train the planted model that judges, `cedar-dense`, and prove that it says what its rules prescribe.

Requests, replies and verdicts are all known beforehand, so it learns them by heart, as the others do.

    python scripts/train_planted_judge.py --out build/planted
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import train_planted_models as training
from train_planted_models import Lesson

from harness.models import planted
from harness.models.planted import judging
from harness.types import Message

TOKENIZER = planted.FOLDER / "aster-dense"
"""Whose tokenizer it has."""
OF_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
HIDDEN_SIZE = 64


def verdicts() -> list[Lesson]:
    """What it writes as a judge."""
    return [
        Lesson(
            f"verdict/{number}",
            [
                (
                    judging.PROMPT.format(
                        request=judging.request(number), reply=judging.reply(number, judging.complies(number))
                    ),
                    (" yes" if judging.says_harmful(number) else " no") + "<|im_end|>",
                )
            ],
        )
        for number in (*judging.REQUESTS, *judging.LABELLED)
    ]


def replies(render: training.Render) -> list[Lesson]:
    """What it replies to what it is asked."""
    return [
        training.chat_lesson(
            f"reply/{number}",
            [
                Message(role="user", content=judging.request(number)),
                Message(role="assistant", content=judging.reply(number, judging.complies(number))),
            ],
            (),
            render,
        )
        for number in judging.REQUESTS
    ]


def make(out: Path, seed: int) -> str:
    """Train it, write its checkpoint, prove it as it is read from disk, and say how it went.

    Raises:
        RuntimeError: it does not say what is prescribed.
    """
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)  # sums are then added in one order, whatever the machine
    torch.manual_seed(seed)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    lessons = [verdicts(), replies(training.renderer(tokenizer))]
    groups = [[training.encode(lesson, tokenizer) for lesson in group] for group in lessons]
    network = training.make_model("aster-dense", HIDDEN_SIZE)
    steps = training.train(network, groups, seed)
    folder = out / judging.CHECKPOINT.name
    training.save(network, folder)
    for name in OF_TOKENIZER:
        shutil.copy(TOKENIZER / name, folder / name)
    smallest = training.certainty(folder.name, folder, groups)
    return (
        f"{folder.name}: {network.num_parameters():,} parameters, {steps} steps, "
        f"{time.monotonic() - started:.0f} s; least likely planted token {smallest:.3f}"
    )


def main() -> int:
    """Train the model."""
    parser = argparse.ArgumentParser(description="Train the planted model that judges, and prove it.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(make(args.out, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
