"""What the client of the Hugging Face hub raises, as one line each: what happened, and what to try."""

from __future__ import annotations

from evlgen.errors import EvlgenError, UsageError, WeightsError, first_line

PREFIX = "hf:"
"""What stands before OWNER/NAME wherever a repository of the hub may be named beside a folder or a file."""


def explained(error: Exception, text: str) -> EvlgenError:
    """The one line for why a model cannot be fetched from the hub.

    Args:
        error: what the client raised.
        text: the model as it was asked for, hf:OWNER/NAME[@REVISION].
    """
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
        return UsageError(f"--model {text}: there is no such revision", "give a branch, tag or commit")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return WeightsError(
            f"{name} is not in the cache of this machine, and the hub cannot be reached",
            "connect, or unset HF_HUB_OFFLINE, or give a folder: hf:./folder",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return UsageError(f"{name} holds no config.json: it is no model of transformers", "give another --model")
    first = first_line(error)
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"--model {text} is no name of a repository: {first}", "give hf:OWNER/NAME[@REVISION]")
    return WeightsError(f"{name} cannot be fetched: {first}", "check name and network")
