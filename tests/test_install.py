"""What is installed is whole: a wheel in an environment of its own, and what the GPU extra resolves to."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from harness import __version__
from tests.conftest import ROOT

UV = ROOT / ".venv" / "bin" / "uv"


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**own, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
    )


def no_source(folder: str, names: list[str]) -> set[str]:
    """What is left out of the copy that a wheel is built from; site/ at the top is built documentation."""
    ignored = set(shutil.ignore_patterns(".*", "results", "tests", "shared")(folder, names))
    return ignored | ({"site"} if Path(folder) == ROOT else set())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment `env` that has the wheel, and its dependencies from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(ROOT, folder / "source", ignore=no_source)
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"openweight_harness-{__version__}-")
    shutil.rmtree(source)
    (folder / "wheel").symlink_to(wheel)
    venv.create(folder / "env", symlinks=True)
    answer = run(
        UV,
        "pip",
        "install",
        "--no-deps",
        "--offline",
        "--python",
        folder / "env/bin/python",
        wheel,
        cwd=folder,
    )
    assert answer.returncode == 0, answer.stderr
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    # A .pth file adds the folder alone: what is installed in it as editable is not seen.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.mark.slow
def test_a_wheel_has_every_file_that_is_no_test(installed: Path) -> None:
    """Data files were missing from wheels of lm-eval (#739) and lmms-eval (#1350)."""
    with zipfile.ZipFile(installed / "wheel") as wheel:
        there = set(wheel.namelist())
    tracked = run("git", "ls-files", "harness", "configs", cwd=ROOT).stdout.split()
    assert len(tracked) > 400
    expected = {name if name.startswith("harness/") else f"harness/{name}" for name in tracked}
    assert expected - there == set()
    assert not [name for name in there if name.startswith(("tests/", "docs/", "results/"))]


@pytest.mark.slow
def test_a_wheel_is_whole(installed: Path) -> None:
    harness = installed / "env" / "bin" / "harness"
    assert run(harness, "--version", cwd=installed).stdout.strip() == f"harness {__version__}"
    where = run(installed / "env/bin/python", "-c", "import harness; print(harness.__file__)", cwd=installed)
    assert Path(where.stdout.strip()).is_relative_to(installed), where.stdout + where.stderr
    planned = run(harness, "plan", "demo", cwd=installed)
    assert "12 cells, 1016 attempts" in planned.stdout, planned.stdout + planned.stderr
    assert str(ROOT) not in planned.stdout


@pytest.mark.slow
def test_it_reads_a_run_as_the_clone_does(installed: Path) -> None:
    harness = installed / "env" / "bin" / "harness"
    shutil.copytree(ROOT / "results" / "demo", installed / "demo")
    for command in (["scorecard", "demo"], ["verify", "demo", "--quick"]):
        there = run(harness, *command, cwd=installed)
        here = run(sys.executable, "-m", "harness.cli", *command, cwd=installed, PYTHONPATH=str(ROOT))
        assert there.returncode == here.returncode == 0, there.stderr + here.stderr
        assert there.stdout == here.stdout


@pytest.mark.slow
def test_the_gpu_extra_resolves_to_what_the_readme_says() -> None:
    """Asks the package index what would be installed, and installs nothing."""
    resolved = run(UV, "pip", "compile", "--quiet", "--extra", "gpu", "pyproject.toml", cwd=ROOT)
    if resolved.returncode:
        pytest.skip(f"the package index cannot be asked: {resolved.stderr.strip().splitlines()[-1]}")
    found = dict(re.findall(r"^([\w-]+)==(\d+\.\d+)", resolved.stdout, re.MULTILINE))
    said = re.search(r"installs vLLM (\d+\.\d+) with CUDA", (ROOT / "README.md").read_text())
    assert said is not None
    assert (found["vllm"], found["torch"]) == (said[1], "2.14")
