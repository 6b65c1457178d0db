"""What the recipes for containers name exists. No runtime is here to build them: their text is tested."""

import re
import tomllib

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "containers" / "Dockerfile").read_text()
DEFINITION = (ROOT / "containers" / "harness.def").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def one(pattern: str, text: str) -> str:
    (found,) = set(re.findall(pattern, text, re.MULTILINE))
    return str(found)


def test_what_is_copied_is_there_and_is_all_that_a_build_needs() -> None:
    copied = {
        name for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.M) for name in line.split()
    }
    taken = re.findall(r"^    (\S+) /src/(\S+)$", DEFINITION, re.M)
    assert all(source == target for source, target in taken)
    assert copied == {source for source, _ in taken}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    metadata = PROJECT["project"]
    needed = {*wheel["packages"], *wheel["force-include"], metadata["readme"], *metadata["license-files"]}
    assert copied == {*needed, "pyproject.toml"}
    assert all((ROOT / name).exists() for name in copied)


def test_both_install_the_same_extras_on_the_same_base() -> None:
    for pattern in (
        r"(nvidia/cuda:\S+)",
        r"uv pip install --no-cache \"\.\[(.+)\]\"",
        r"uv venv --python (\S+) /opt/harness",
        r"(HF_HOME=/hub HF_HUB_OFFLINE=1)",
        r"uv[:/](0\.\d+)",
    ):
        assert one(pattern, DOCKERFILE) == one(pattern, DEFINITION)
    extras = one(r"\"\.\[(.+)\]\"", DOCKERFILE).split(",")
    assert extras[0] == "gpu" and set(extras) <= PROJECT["project"]["optional-dependencies"].keys()


def test_no_version_is_written_beside_that_of_the_project() -> None:
    python = one(r"--python (\S+)", DOCKERFILE)
    assert PROJECT["project"]["requires-python"] == f">={python}"
    for text in (DOCKERFILE, DEFINITION):
        assert not re.search(
            r"vllm|torch==|[<>=]=\d", text.replace("vLLM", "").lower().replace("from torch", "")
        )
        assert "bubblewrap" in text and "libnvidia" not in text


def test_the_pages_name_the_recipes() -> None:
    said = (ROOT / "docs" / "tutorials" / "cluster.md").read_text()
    for path in ("containers/Dockerfile", "containers/harness.def"):
        assert path in said
