"""A model's folder onto the Hugging Face hub, in one commit: all of it or nothing.

Weights that have arrived are not sent again when a push that was interrupted is repeated: the hub knows them by their
hash. Who pushes is told by the hub client's own means alone (`hf auth login`, HF_TOKEN); the folder stays as it is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.hub.card import WRITTEN, licence_of, make_card
from evlgen.hub.model_folder import CARD_FILE, ModelFolder, check_portable, look_through
from evlgen.hub.scores import ScoredData
from evlgen.hub.stub import stub_files
from evlgen.weights.hub_client import PREFIX

_TARGET = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<branch>[\w./-]+))?")


@dataclass(frozen=True)
class Push:
    """What would be, or was, uploaded.

    Attributes:
        repository: OWNER/NAME.
        branch: None: the repository's main one.
        files: contents by name in the repository: files of this machine, or texts that are made for it.
        left_out: other files of the folder.
        licence: what the card states.
    """

    repository: str
    branch: str | None
    files: dict[str, Path | str]
    left_out: tuple[str, ...]
    licence: str | None

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(content.encode()) if isinstance(content, str) else content.stat().st_size
            for name, content in self.files.items()
        }


@dataclass(frozen=True)
class Pushed:
    """What has come of a push.

    Attributes:
        address: of the commit, for a browser.
        commit: its hash.
        card_kept: the repository has a card of its own, which stays.
    """

    address: str
    commit: str
    card_kept: bool


def plan_push(model: str | Path, to: str, *, licence: str | None = None, scores: Sequence[ScoredData] = ()) -> Push:
    """Look through a model and say what would be uploaded; asks nobody.

    Args:
        model: a folder, or a packaged model.
        to: hf:OWNER/NAME, or hf:OWNER/NAME@BRANCH.
        licence, scores: see `make_card`.

    Raises:
        UsageError: `to` is none, there is no such model, or it would not load elsewhere.
        WeightsError: its weights are missing or damaged.
    """
    match = _TARGET.fullmatch(to)
    if match is None:
        raise UsageError(f"--to {to} names no repository", "write hf:OWNER/NAME, or hf:OWNER/NAME@BRANCH")
    found: ModelFolder = look_through(model)
    check_portable(found)
    card = make_card(found, match["repository"], licence=licence, scores=scores)
    texts = {**stub_files(found.folder), CARD_FILE: card}
    return Push(match["repository"], match["branch"], {**texts, **found.files}, found.left_out, licence_of(card))


def client(token: str | None = None) -> Any:
    """The hub's HfApi for who has the token; None: for who is logged in.

    Raises:
        UsageError: nobody is, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import HfApi, constants, get_token

    if constants.is_offline_mode():
        raise UsageError("HF_HUB_OFFLINE is set: nothing can be pushed", "unset it")
    token = token or get_token()
    if not token:
        raise UsageError("the hub does not know who you are: there is no token", "hf auth login, or set HF_TOKEN")
    return HfApi(token=token)


def without_bars() -> None:
    """Keep the client from drawing bars, which are for terminals."""
    import huggingface_hub.utils

    huggingface_hub.utils.disable_progress_bars()  # type: ignore[attr-defined]


def push(plan: Push, *, private: bool = False, message: str = "", api: Any = None) -> Pushed:
    """Upload what was planned; the repository and its branch are made where they are missing.

    Args:
        plan: of `plan_push`.
        private: the repository is to be private; one that is public is refused.
        message: of the commit.
        api: of `client`, which is called if it is not given.

    Raises:
        UsageError: the repository has an impossible name, or is public and should be private.
        EvlgenError: the hub refuses it or cannot be reached; nothing has changed there but what it had received.
    """
    from huggingface_hub import CommitOperationAdd

    api = client() if api is None else api
    with _hub_errors(plan, str(api.token)):
        api.create_repo(plan.repository, private=private or None, exist_ok=True)
        if private and not api.model_info(plan.repository).private:
            raise UsageError(
                f"{plan.repository} is there already and is public",
                "make it private on its page, leave --private away, or give another name",
            )
        if plan.branch is not None:
            api.create_branch(plan.repository, branch=plan.branch, exist_ok=True)
        kept = _has_own_card(api, plan)
        done = api.create_commit(
            plan.repository,
            [
                CommitOperationAdd(name, content.encode() if isinstance(content, str) else str(content))
                for name, content in plan.files.items()
                if not (kept and name == CARD_FILE)
            ],
            commit_message=message or "Upload a model with evlgen",
            revision=plan.branch,
        )
    return Pushed(str(done.commit_url), str(done.oid), kept)


def _has_own_card(api: Any, plan: Push) -> bool:
    """Whether the repository has a card that somebody wrote, which is not ours to replace."""
    if not api.file_exists(plan.repository, CARD_FILE, revision=plan.branch):
        return False
    if WRITTEN not in str(plan.files[CARD_FILE]):
        return False  # the folder's own card was written by somebody as well, and is newer
    path = api.hf_hub_download(plan.repository, CARD_FILE, revision=plan.branch)
    return WRITTEN not in Path(path).read_text(encoding="utf-8", errors="replace")


@contextmanager
def _hub_errors(plan: Push, token: str) -> Iterator[None]:
    """Make one line of whatever the client raises, without the token."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # a line for each time that it tries again
    try:
        yield
    except EvlgenError:
        raise
    except Exception as error:
        raise _explained(error, plan, token) from None


def _explained(error: BaseException, plan: Push, token: str) -> EvlgenError:
    from huggingface_hub import errors

    where = plan.repository + (f"@{plan.branch}" if plan.branch else "")
    while (
        isinstance(error, RuntimeError) and error.__cause__ is not None
    ):  # "Error while uploading": its cause says why
        error = error.__cause__
    said = str(getattr(error, "server_message", None) or error).strip() or type(error).__name__
    first = said.splitlines()[-1 if isinstance(error, ValueError) else 0].replace(token, "…")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"--to {PREFIX}{where} names no repository: {first}", "write hf:OWNER/NAME")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return EvlgenError("the hub does not accept the token", "hf auth login, or another HF_TOKEN")
    if status == 403:
        return EvlgenError(
            f"you may not write to {where}: {first}", "give a name of your own, or a token with the right to write"
        )
    if status == 404:
        return UsageError(f"the hub has no {where}, or it is not yours", "check the name")
    if status == 413:
        return EvlgenError(f"a file is too large for the hub: {first}", "convert or train a smaller model")
    if status == 429:
        return EvlgenError("the hub asks to wait: too many requests", "push again later")
    if status is not None:
        return EvlgenError(
            f"the hub refuses {where} with status {status}: {first}", "push again: what has arrived stays"
        )
    if isinstance(error, OSError) and error.filename:
        return EvlgenError(
            f"{error.filename} cannot be read: {error.strerror}", "see that it is there, then push again"
        )
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0].startswith("httpx"):
        return EvlgenError(
            f"the hub cannot be reached: {first}",
            "check the network and HF_ENDPOINT, then push again: what has arrived stays",
        )
    return EvlgenError(f"{where} cannot be pushed: {first}", "push again: what has arrived stays")
