"""What a chain has done: one JSON file in its folder, replaced as a whole after every step.

A run killed at any moment leaves the file of before or of after; a step that it names as running was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.jsons import parse_json, write_json
from evlgen.system.locks import AlreadyLockedError, lock_exclusively

STATE_FILE = "chain.json"
_FORMAT = 1

Status = Literal["running", "done", "failed", "interrupted"]


@dataclass
class StepRecord:
    """What is known about a step.

    Attributes:
        status: running is also what a killed run leaves.
        settings: everything that decides the result, apart from
        dependencies: key of a reference -> digest of what that step produced.
        started: when it was first begun, UTC.
        seconds: spent on it, over all its runs.
        files: what it produced, by path relative to the chain's folder, with a hash (64 bits) of the content.
        figures: results in numbers.
        text: the result in one line.
        error: why it failed; empty if it did not.
        complete: False when something was left out: videos without a caption, scores that were skipped.
    """

    status: Status
    settings: dict[str, Any]
    dependencies: dict[str, str]
    started: str
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    error: str = ""
    complete: bool = True

    @property
    def fingerprint(self) -> str:
        """Of the settings and of what they depend on: with an equal one the result would be made again as it is."""
        return fingerprint(self.settings, self.dependencies)

    @property
    def digest(self) -> str:
        """Of what the step produced."""
        return hash_of(self.files)


def fingerprint(settings: dict[str, Any], dependencies: dict[str, str]) -> str:
    """64 bits of a step's settings and of the digests of what it depends on."""
    return hash_of([settings, dependencies])


def hash_of(value: Any) -> str:
    """64 bits of a value of plain types, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class ChainState:
    """The state of a chain.

    Attributes:
        folder: of the chain.
        name: of the chain.
        steps: what is known, by name of the step.
    """

    folder: Path
    name: str
    steps: dict[str, StepRecord] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The state of a folder; None where no chain has run.

        Raises:
            UsageError: the file is not one of ours.
        """
        path = folder / STATE_FILE
        try:
            content = parse_json(path.read_bytes(), str(path))
            if content["format"] != _FORMAT:
                raise UsageError(f"{path} was written by another version of evlgen", "choose another --out")
            return cls(folder, content["chain"], {n: _record(values) for n, values in content["steps"].items()})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", "choose another --out") from None

    def write(self) -> None:
        """Replace the file; the old one or the new one is there at every moment.

        Raises:
            EvlgenError: the disk is full or not writable.
        """
        steps = {name: {"fingerprint": one.fingerprint, **asdict(one)} for name, one in self.steps.items()}
        content = {"format": _FORMAT, "chain": self.name, "steps": steps}
        write_json(self.folder / STATE_FILE, content, indent=1, hint="free some disk, then --resume")


def _record(values: dict[str, Any]) -> StepRecord:
    return StepRecord(**{key: value for key, value in values.items() if key != "fingerprint"})


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs of chains out of a folder while this is open.

    Raises:
        UsageError: one is there already.
        EvlgenError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise EvlgenError(f"{folder} cannot be written: {error.strerror}", "choose another --out") from None
    with file:
        try:
            lock_exclusively(file.fileno())
        except AlreadyLockedError:
            raise UsageError(f"another run works in {folder}", "wait for its end, or choose another --out") from None
        yield
