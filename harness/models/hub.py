"""What the hub says about a repository, weights never downloaded: commits, small files, tensor headers."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.models.tensors import Tensor, single_tensors


def offline() -> bool:
    """Whether HF_HUB_OFFLINE is set, as huggingface_hub understands it."""
    from huggingface_hub.constants import is_offline_mode

    return bool(is_offline_mode())


def commit(repository: str, revision: str | None = None) -> str:
    """The commit that a revision (branch, tag or commit; default `main`) stands for.

    Raises:
        UserError: there is no such repository or revision, it is gated, or the hub cannot be reached.
    """
    with _asking(repository, revision):
        sha: str | None = _api().model_info(repository, revision=revision).sha
    if sha is None:
        raise UserError(f"the hub names no commit of {repository}: set `revision` by hand")
    return sha


def tensors(repository: str, revision: str | None = None) -> list[Tensor]:
    """Every tensor of a repository, by ranged reads of the headers of its safetensors files.

    Raises:
        UserError: as `commit`, or the repository has no safetensors files.
    """
    from huggingface_hub.errors import NotASafetensorsRepoError

    with _asking(repository, revision):
        try:
            metadata = _api().get_safetensors_metadata(repository, revision=revision)
            files, homes = metadata.files_metadata, metadata.weight_map
        except NotASafetensorsRepoError:
            if not (names := _consolidated(repository, revision)):
                raise
            api, homes = _api(), {}
            files = {n: api.parse_safetensors_file_metadata(repository, n, revision=revision) for n in names}
    stored = (
        (name, Tensor(tensor_name, tuple(tensor.shape), tensor.dtype))
        for name, file in files.items()
        for tensor_name, tensor in file.tensors.items()
    )
    return single_tensors(repository, stored, homes)


def _consolidated(repository: str, revision: str | None) -> list[str]:
    """The safetensors files of a repository in Mistral's own format, empty if it is in none."""
    index = file(repository, "consolidated.safetensors.index.json", revision)
    if index is not None:
        return sorted(set(json.loads(index.read_text(encoding="utf8"))["weight_map"].values()))
    single = "consolidated.safetensors"
    return [single] if _api().file_exists(repository, single, revision=revision) else []


def config_folder(repository: str, revision: str | None = None) -> Path:
    """A folder with the config.json of a repository, or in Mistral's own format its params.json.

    Raises:
        UserError: as `commit`, or it has neither.
    """
    for name in ("config.json", "params.json"):
        if (path := file(repository, name, revision)) is not None:
            return path.parent
    raise UserError(f"{repository} has no config.json: give the repository of a whole checkpoint")


def file(repository: str, name: str, revision: str | None = None) -> Path | None:
    """A small file of a repository, None if it has no such file.

    Raises:
        UserError: as `commit`.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with _asking(repository, revision):
        try:
            return Path(_api().hf_hub_download(repository, name, revision=revision))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            return None


def dataset_commit(repository: str, revision: str | None = None) -> str:
    """The commit that a revision of a data set stands for.

    Raises:
        UserError: as `commit`.
    """
    copy = "set HF_HUB_OFFLINE=1 to take the copy in the cache, if there is one"
    with _asking(f"data set {repository}", revision, lacking="is of no known commit", otherwise=copy):
        sha: str | None = _api().dataset_info(repository, revision=revision).sha
    if sha is None:
        raise UserError(f"the hub names no commit of data set {repository}: set `revision` by hand")
    return sha


def snapshot(repository: str, revision: str) -> Path:
    """Everything of a repository but weights in other formats than safetensors, from the hub or its cache.

    Raises:
        UserError: as `commit`.
    """
    others = ["*.bin", "*.pth", "*.pt", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "original/*"]
    with _asking(repository, revision):
        folder = _api().snapshot_download(repository, revision=revision, ignore_patterns=others)
    return Path(folder)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


@contextmanager
def _asking(
    repository: str,
    revision: str | None,
    lacking: str = "is not on this machine",
    otherwise: str = "give a folder",
) -> Iterator[None]:
    """What can go wrong when the hub is asked, in one sentence each.

    Args:
        repository: what is asked about.
        revision: of it.
        lacking: what there is without the hub's answer.
        otherwise: what to do where there is no network.
    """
    from huggingface_hub import errors

    at = f"{repository} at revision {revision}" if revision else repository
    try:
        yield
    except errors.GatedRepoError as error:
        remedy = "accept its terms on its page, then run `hf auth login`"
        raise UserError(f"{repository} is gated: {remedy}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"the hub has no repository {repository}, or not for you: check the id") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{repository} has no revision {revision}: give one of its branches, tags or commits"
        ) from error
    except errors.NotASafetensorsRepoError as error:
        raise UserError(
            f"{at} has no safetensors files: convert its weights, pickles are not loaded"
        ) from error
    except errors.SafetensorsParsingError as error:
        raise UserError(f"{at} has a damaged safetensors file: choose another revision") from error
    except errors.HFValidationError as error:
        raise UserError(
            f"{repository!r} is neither a folder nor a hub id such as Qwen/Qwen3-0.6B: check the spelling"
        ) from error
    except OSError as error:  # offline mode, no network, or an error status of the hub
        raise UserError(
            f"{at} {lacking} and the hub cannot be asked ({_reason(error)}): "
            f"run this where there is a network, or {otherwise}"
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):  # its errors share no base with OSError
            raise
        raise UserError(
            f"{at} {lacking} and the hub cannot be reached: run this where there is a network, or {otherwise}"
        ) from error


def _reason(error: OSError) -> str:
    if "offline mode" in str(error) or "HF_HUB_OFFLINE" in str(error):
        return "HF_HUB_OFFLINE is set"
    return " ".join(str(error).split())[:120].rstrip(".:")
