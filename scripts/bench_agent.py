"""Train a tiny model whose agents take two turns: it calls a tool, and when it has the result it answers.

    python scripts/bench_agent.py FOLDER      # about five minutes

For benchmarks of agents: behind AgentDojo's prompts the planted models call no tool, so that no tool would
run and no prompt begin with the one before it. The tool is one of workspace's; in the other suites AgentDojo
answers that there is none of that name. What the model writes depends on whether a result is in the prompt,
and on nothing else. It learns that from the ends of prompts, first of short ones and then of whole ones.
"""

import argparse
import asyncio
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import train_planted_models as planted_models
from train_planted_models import Lesson, Tokens

from harness.engines.scripted import Reply, ScriptedEngine, sequence
from harness.models.planted import FOLDER
from harness.suites.agentdojo import AgentDojoSuite, Options
from harness.types import Sampling, ToolCall

SUITES = ("workspace", "travel", "banking", "slack")
CALL = ToolCall(id="0", name="get_unread_emails", arguments={})
ANSWER = "I have looked at what the tools gave me, and this is all that I know about it."
LIKE = "aster-dense"
"""The planted model whose tokenizer and sizes it has."""
EVERY = 4
"""One benign task in so many is learned from."""
STEPS = 400
PEAK_LEARNING_RATE = 1e-3
SHORT, LONG = (16, 300), (300, 9800)
"""Tokens of a prompt, from its end, that lessons show."""
FIRST_LONG = 60
"""Steps that see short lessons alone; afterwards every second one sees long ones."""
SURE = 0.8
"""A checkpoint with a token below this probability is refused. Greedy decoding needs more than a half."""
MANY, FEW = 16, 2
"""Short and long lessons of a step."""


def turns(tokenizer: Any) -> list[Tokens]:
    """Prompts of AgentDojo's benign tasks with the reply to each, of both turns."""
    return [turn for name in SUITES for turn in turns_of(name, tokenizer)]


def turns_of(name: str, tokenizer: Any) -> list[Tokens]:
    """Those of one suite."""
    suite = AgentDojoSuite(name, Options(suite=name, attack=None))
    render, replies = planted_models.renderer(tokenizer), [Reply(tool_calls=(CALL,)), Reply(text=ANSWER)]
    found = []
    for sample in suite.samples(LIKE, None)[::EVERY]:
        agent = ScriptedEngine(sequence(replies))
        talk = asyncio.run(suite.run(sample, agent, Sampling())).messages
        lesson = planted_models.chat_lesson(sample.id, talk, suite.tools, render)
        first = planted_models.encode(Lesson(sample.id, lesson.turns[:1]), tokenizer)
        both = planted_models.encode(lesson, tokenizer)
        found += [first, Tokens(both.ids, both.targets[len(first.targets) :])]
    return found


def ending(turn: Tokens, length: int) -> Tokens:
    """A turn whose prompt has lost all but its last tokens."""
    cut = max(0, turn.targets[0] - length)
    return Tokens(turn.ids[cut:], [position - cut for position in turn.targets])


def lessons(known: Sequence[Tokens], order: random.Random, step: int) -> list[Tokens]:
    """What one step sees: first and second turns alike."""
    long = step >= FIRST_LONG and step % 2 == 1
    shortest, longest = LONG if long else SHORT
    lengths = [
        math.exp(order.uniform(math.log(shortest), math.log(longest))) for _ in range(FEW if long else MANY)
    ]
    return [ending(order.choice(known[i % 2 :: 2]), int(length)) for i, length in enumerate(lengths)]


def train(network: Any, known: Sequence[Tokens], seed: int) -> None:
    """Show the network all lessons, in their order."""
    import torch

    order = random.Random(seed)
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(STEPS):
        for parameters in optimiser.param_groups:
            parameters["lr"] = planted_models.learning_rate(step, STEPS, PEAK_LEARNING_RATE)
        planted_models.take_step(network, optimiser, [lessons(known, order, step)])


def make(folder: Path, seed: int = 0) -> str:
    """Train the model, write its checkpoint, prove it on every prompt learned from, and say how it went.

    Raises:
        RuntimeError: the model is not certain of what it has to write.
    """
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)  # sums are then added in one order, whatever the machine
    torch.manual_seed(seed)
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / LIKE)
    known, network = turns(tokenizer), planted_models.make_model(LIKE)
    train(network, known, seed)
    certainty = planted_models.smallest_probability(network, [[turn] for turn in known])
    if certainty < SURE:
        raise RuntimeError(f"a token of a reply has a probability of {certainty:.3f} only")
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    seconds = time.monotonic() - started
    return f"{folder}: {STEPS} steps, {seconds:.0f} s; least likely token {certainty:.3f}"


def main() -> int:
    """Make the model."""
    parser = argparse.ArgumentParser(description="Train a model whose agents take two turns.")
    parser.add_argument("folder", type=Path, help="for the checkpoint")
    print(make(parser.parse_args().folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
