"""With HF_HUB_OFFLINE=1 a run asks the network for nothing: names are not even looked up."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

MODULE = """
import socket

from harness.engines.scripted import ScriptedEngine


async def start(model, args):
    return ScriptedEngine()


def refuse(*args, **kwargs):
    raise SystemExit(f"the network was asked: {args}")


def main():
    import sys

    socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
    from harness.cli import main

    raise SystemExit(main(sys.argv[1:]))


if __name__ == "__main__":
    main()
"""

CONFIG = """
name: offline
models:
  - name: a
    path: somewhere/else
    origin: {developer: D, country: XA}
suites: [planted_choice]
sampling: {temperature: 0.0}
engine: {kind: "offline_engine:start"}
"""


def test_a_run_touches_no_network(tmp_path: Path) -> None:
    (tmp_path / "offline_engine.py").write_text(MODULE)
    (tmp_path / "offline.yaml").write_text(CONFIG)
    out = tmp_path / "out"
    process = subprocess.run(
        [sys.executable, "-m", "offline_engine", "run", str(tmp_path / "offline.yaml"), "--out", str(out)],
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hub"),
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert (out / "scorecard.json").is_file()
