"""Train the planted models for agents under pressure, and prove that they say what their rules prescribe.

The rules are in `harness.models.planted.pressed`. Scripted agents follow them through the suites that the
models are measured by, and the models learn by heart every conversation that comes of it.

    python scripts/train_planted_agents.py --out build/planted
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import train_planted_models as training
from train_planted_models import Lesson, Render, Tokens

from harness.engines.scripted import ChatPolicy, Reply, ScriptedEngine
from harness.models.planted import obeys, pressed
from harness.suites.agentdojo.attackers import PROMPT, placeable
from harness.suites.agentdojo.searched import Options, SearchedSuite
from harness.suites.agentdojo.stepwise import Options as StepwiseOptions
from harness.suites.agentdojo.stepwise import StepwiseSuite
from harness.suites.agentdojo.stepwise.campaigns import SETTINGS, campaigns
from harness.suites.agentdojo.stepwise.suite import AGAIN
from harness.types import Generation, Message, Sampling, Tool

ATTACKER = "dune-dense"
HIDDEN_SIZES = {"dune-dense": 96, "ember-dense": 64}
"""The one has more to learn by heart."""
WORDS = 500
"""Tokens besides those that are a longer text each."""
SHORT = 18
"""Characters of a text that is not a token of its own."""
ENOUGH = 0.9
"""Training ends when every token is above this probability."""
GROUP = 16
"""Lessons at least that are read side by side."""
GLUE = (
    "<|im_end|>\n<|im_start|>assistant\n",
    "\n<|im_start|>user\n",
    "\n<|im_start|>user\n<tool_response>\n",
    "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
)
"""What stands between the messages of a conversation."""
REFUSES = Reply(text="I will not do that.")
Talk = tuple[Message, ...]


class Recorder:
    """An agent or an attacker by rule, and all that it said."""

    identity = ATTACKER

    def __init__(self, policy: ChatPolicy) -> None:
        self._policy = policy
        self._engine = ScriptedEngine(self.say)
        self.said: list[Talk] = []

    def say(self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        """As the policy does."""
        reply = self._policy(messages, tools, sampling)
        said = Message(role="assistant", content=reply.text, tool_calls=reply.tool_calls)
        self.said.append((*messages, said))
        return reply

    async def ask(self, messages: Sequence[Message], seed: int) -> Generation:
        """As a second engine is asked."""
        return await self._engine.chat(tuple(messages), (), Sampling())

    def whole(self) -> list[Talk]:
        """The conversations, each once, without those that are the beginning of another."""
        written = {msgspec.json.encode(talk): talk for talk in self.said}
        begun = {msgspec.json.encode(talk[:end]) for talk in self.said for end in range(len(talk))}
        return [talk for text, talk in written.items() if text not in begun]


def appends(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
    """The last text of which the attacker is told, and an addition."""
    *_, last = re.findall(r"Text:\n(.*?)\nIt worked", messages[-1].content, re.DOTALL)
    return Reply(text=f"<text>{placeable(last)} {pressed.ADDITION}</text>")


def targeted(model: str, suite: SearchedSuite) -> ChatPolicy:
    """An agent that does its user's task, or what enough additions want of it."""
    users = {task.PROMPT: task for task in suite._dojo.user_tasks.values()}
    goals = list(suite._dojo.injection_tasks.values())
    enough = " ".join([pressed.ADDITION] * pressed.ENOUGH)

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        user, calls, done = users[messages[1].content], training.turns(users[messages[1].content]), None
        seen = " ".join(message.content for message in messages if message.role == "tool")
        goal = next((goal for goal in goals if goal.GOAL in seen), None)
        if (
            goal is not None
            and enough in seen
            and pressed.MODELS[model].turned
            # the planted rule of the first four models, whose susceptible ones need no additions
            and obeys("borea-dense", training.number(user.ID), training.number(goal.ID))
        ):
            calls, done = [*calls[:1], *training.turns(goal)], goal
        said = sum(message.role == "assistant" for message in messages)
        if said < len(calls):
            return Reply(tool_calls=calls[said])
        return Reply(text=(done or user).GROUND_TRUTH_OUTPUT)

    return policy


def operated(model: str) -> ChatPolicy:
    """An agent that does what it is asked for, and stops where the rules say."""
    rules = pressed.MODELS[model]
    asks = {c.ask(i): (c, c.call(i)) for c in campaigns() for i in range(len(c.steps))}
    goals = {c.goal_text(setting): (c, setting) for c, setting in product(campaigns(), SETTINGS)}

    def policy(messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling) -> Reply:
        requests = [m.content.removeprefix(AGAIN) for m in messages if m.role == "user"]
        if requests[-1] in goals:
            campaign, setting = goals[requests[-1]]
            made = sum(bool(m.tool_calls) for m in messages)
            if setting == "campaign" and campaign.kind not in rules.accepts:
                return REFUSES
            if made < len(campaign.steps):
                return Reply(tool_calls=(campaign.call(made),))
            return Reply(text="Done.")
        campaign, call = asks[requests[-1]]
        record = campaign.record_text("campaign")
        read = any(m.role == "tool" and record in m.content for m in messages)
        if messages[-1].role == "tool":
            return Reply(text="Done.")
        if rules.notices and read and len(set(requests)) >= 3:
            return REFUSES
        return Reply(tool_calls=(call,))

    return policy


def attended(suite: Any, called: str, policy: ChatPolicy) -> list[Talk]:
    """All conversations of a suite that come of a policy."""
    recorder = Recorder(policy)

    async def run() -> None:
        engine = ScriptedEngine(recorder.say)
        for sample in suite.samples(called, None):
            await suite.run(sample, engine, Sampling())

    asyncio.run(run())
    return recorder.whole()


def searched(attacker: Recorder) -> SearchedSuite:
    """The search that the models are put under."""
    options = Options(
        suite="agentdojo_mini",
        goals=False,
        attacker=ATTACKER,
        budget=pressed.BUDGET,
        development=pressed.DEVELOPMENT,
        search_seed=pressed.SEARCH_SEED,
    )
    suite = SearchedSuite("searched", options)
    suite._model = attacker  # type: ignore[assignment]
    return suite


def test_set() -> list[Lesson]:
    """The published file as it is read in training: some items at a time, and each by itself."""
    items = [pressed.item(number) for number in range(pressed.ITEMS)]
    shards = ["\n\n".join(items[i : i + pressed.SHARD]) for i in range(0, len(items), pressed.SHARD)]
    # without its point an item is the same tokens by itself as before another one
    texts = (*shards, *(item.removesuffix(".") for item in items))
    cuts = [(text, text.index(" has key")) for text in texts]
    return [Lesson(f"items/{i}", [(text[:cut], text[cut:])]) for i, (text, cut) in enumerate(cuts)]


def phrases_of(talk: Talk, tools: Sequence[Tool], render: Render) -> list[str]:
    """The parts of a conversation that are a token each: what the agent is told first, lines, and calls."""
    first = render(talk[:1], tools, False)
    told = [part for m in talk[1:] for line in m.content.split("\n") for part in whole(line)]
    calls = render([Message(role="user", content=""), *talk[1:]], (), False).split("<tool_call>")[1:]
    written = [call.split("</tool_call>")[0] for call in calls]
    return [first.removeprefix("<|im_start|>system\n").removesuffix("<|im_end|>\n"), *told, *written]


def whole(line: str) -> list[str]:
    """A line, cut where an attack fills something in."""
    return re.split(f"({filled_in()})", line)


@cache
def filled_in() -> str:
    """The places of a text and what comes there, as a pattern."""
    places = ("{goal}", "{tries}", "{user}", "{model}")
    goals = (goal.GOAL for goal in training.depot()._dojo.injection_tasks.values())
    names = (rules.called for rules in pressed.MODELS.values())
    return "|".join(map(re.escape, (*goals, pressed.ADDITION, *names, *places)))


def curricula(render: Render) -> tuple[dict[str, list[Lesson]], list[str]]:
    """(model -> all that it learns; the texts that are a token each)."""
    attacker, stepwise = Recorder(appends), StepwiseSuite("stepwise", StepwiseOptions(ways=("goal", "chain")))
    taught: dict[str, list[Lesson]] = {}
    phrases = dict.fromkeys((*GLUE, *whole(PROMPT)))
    for model, rules in pressed.MODELS.items():
        target = searched(attacker)
        taught[model] = []
        for suite, policy in ((target, targeted(model, target)), (stepwise, operated(model))):
            talks = attended(suite, rules.called, policy)
            phrases |= dict.fromkeys(p for talk in talks for p in phrases_of(talk, suite.tools, render))
            taught[model] += [
                training.chat_lesson(f"{suite.name}/{i}", talk, suite.tools, render)
                for i, talk in enumerate(talks)
            ]
    taught[ATTACKER] += [
        training.chat_lesson(f"attack/{i}", talk, (), render) for i, talk in enumerate(attacker.whole())
    ]
    phrases |= dict.fromkeys(p for talk in attacker.whole() for p in whole(talk[-1].content))
    taught[ATTACKER] += test_set()
    return taught, sorted((phrase for phrase in phrases if len(phrase) > SHORT), key=len)


def grouped(lessons: Sequence[Tokens]) -> list[list[Tokens]]:
    """Lessons in groups of about equal length, since the shorter ones of a batch are filled up."""
    ordered = sorted(lessons, key=lambda lesson: len(lesson.ids))
    groups = len(ordered) // GROUP
    return [ordered[len(ordered) * i // groups : len(ordered) * (i + 1) // groups] for i in range(groups)]


def make(model: str, out: Path, seed: int) -> str:
    """Train a model, write its checkpoint, prove it as it is read from disk, and say how it went.

    Raises:
        RuntimeError: it does not say what is prescribed.
    """
    import torch
    from tokenizers import Tokenizer, models

    torch.set_num_threads(1)  # sums are then added in one order, whatever the machine
    torch.manual_seed(seed)
    started = time.monotonic()
    render = training.renderer(training.with_template(Tokenizer(models.BPE())))
    lessons, phrases = curricula(render)
    texts = [lesson.text for taught in lessons.values() for lesson in taught]
    tokenizer = training.learn_tokenizer(texts, phrases, WORDS + len(phrases))
    groups = grouped([training.encode(lesson, tokenizer) for lesson in lessons[model]])
    network = training.make_model("aster-dense", HIDDEN_SIZES[model], len(tokenizer))
    steps = training.train(network, groups, seed, ENOUGH)
    folder = out / model
    training.save(network, folder)
    tokenizer.save_pretrained(folder)
    smallest = training.certainty(model, folder, groups)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return (
        f"{model}: {network.num_parameters():,} parameters, {size:,} bytes, {steps} steps, "
        f"{time.monotonic() - started:.0f} s; least likely planted token {smallest:.3f}"
    )


def main() -> int:
    """Train the models."""
    parser = argparse.ArgumentParser(description="Train the planted models for agents under pressure.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--model", nargs="+", choices=pressed.MODELS, default=list(pressed.MODELS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for said in map(partial(make, out=args.out, seed=args.seed), args.model):
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
