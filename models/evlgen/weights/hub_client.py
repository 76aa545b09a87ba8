"""Files and folders of the Hugging Face hub, through its own client and cache: HF_HOME, HF_TOKEN and mirrors apply.

What the client raises becomes one line: what happened, and what to try.
"""

from __future__ import annotations

import logging
from pathlib import Path

from evlgen.errors import EvlgenError, UsageError, WeightsError, first_line

PREFIX = "hf:"
"""What stands before OWNER/NAME wherever a repository of the hub may be named beside a folder or a file."""


def hub_file(repository: str, file: str, revision: str | None, text: str) -> Path:
    """A file of a repository in the client's cache, fetched if it is not there.

    Args:
        repository: OWNER/NAME.
        file: its path in the repository.
        revision: a branch, tag or commit; None: the main branch.
        text: what was asked for, as the user spelled it.

    Raises:
        UsageError: there is no such repository, revision or file.
        WeightsError: it cannot be fetched: no network, no permission.
    """
    from huggingface_hub import hf_hub_download

    _hush()
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:
        raise _explained(error, text, file) from None


def hub_folder(text: str, patterns: list[str] | None = None) -> Path:
    """The folder of a repository in the client's cache, with what of it is not there yet fetched.

    Args:
        text: [hf:]OWNER/NAME[@REVISION].
        patterns: files that are wanted; None: all.

    Raises:
        UsageError, WeightsError: as of `hub_file`.
    """
    from huggingface_hub import snapshot_download

    _hush()
    name, _, revision = text.removeprefix(PREFIX).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except Exception as error:
        raise _explained(error, text) from None


def _hush() -> None:
    """Without this the client writes a line for each time that it tries again."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _explained(error: Exception, text: str, file: str = "config.json") -> EvlgenError:
    from huggingface_hub import errors

    name = text.removeprefix(PREFIX)
    if isinstance(error, errors.GatedRepoError):  # before the error that it is a kind of
        return WeightsError(
            f"{name} is gated: its owner lets in who has accepted the licence",
            f"accept it on the page of {name}, then `hf auth login` or HF_TOKEN",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(f"the hub has no model {name!r}, or it is private", "check the name; HF_TOKEN opens yours")
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"{name}: there is no such revision", "give a branch, tag or commit")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return WeightsError(
            f"{name} is not in the cache of this machine, and the hub cannot be reached",
            "connect, or unset HF_HUB_OFFLINE, or give a folder: hf:./folder",
        )
    if isinstance(error, errors.EntryNotFoundError):
        if file != "config.json":
            return UsageError(f"{name}: there is no such file", "check the spelling")
        return UsageError(f"{name} holds no config.json: it is no model of transformers", "give another --model")
    first = first_line(error)
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"--model {text} is no name of a repository: {first}", "give hf:OWNER/NAME[@REVISION]")
    return WeightsError(f"{name} cannot be fetched: {first}", "check name and network")
