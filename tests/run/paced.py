"""An engine whose models take as long as the environment says, and that writes down where it runs."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from harness.config import ModelSpec
from harness.engines.base import Engine
from harness.engines.scripted import ScriptedEngine
from harness.types import Generation
from tests.fakes import last_digit


class Paced(ScriptedEngine):
    """Of which no fact says how fast it is."""

    pace: float

    async def chat(self, *arguments: Any) -> Generation:
        await asyncio.sleep(self.pace)
        return await super().chat(*arguments)


async def start(model: ModelSpec, args: dict[str, Any]) -> Engine:
    """Args: of the environment: PACE: model -> seconds a reply, `killed` or `never` (it does not load)."""
    with (Path(os.environ["FOLDER"]) / f"{model.name}-started").open("a") as file:
        file.write(f"{os.getpid()}\n")
    pace = json.loads(os.environ["PACE"]).get(model.name, 0.0)
    if pace == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if pace == "never":
        await asyncio.sleep(600)
    engine = Paced(last_digit)
    engine.pace = pace
    return engine
