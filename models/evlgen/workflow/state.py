"""What a chain has done: one JSON file in its folder, replaced as a whole after every step.

A run killed at any moment leaves the file of before or of after; a step that it names as running was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from evlgen.errors import UsageError
from evlgen.system.jsons import JsonError, read_json, write_json

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
        """Hash of the settings and of what they depend on: an equal one would make the same result again."""
        return fingerprint(self.settings, self.dependencies)

    @property
    def digest(self) -> str:
        """Hash of what the step produced."""
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
        overrides: "STEP.key=value" that the chain is run with; --resume needs them no more.
    """

    folder: Path
    name: str
    steps: dict[str, StepRecord] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The state of a folder; None where no chain has run.

        Raises:
            UsageError: the file is not one of ours.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return None
        try:
            content = read_json(path)
            if content["format"] != _FORMAT:
                raise UsageError(f"{path} was written by another version of evlgen", "choose another --out")
            steps = {n: _record(values) for n, values in content["steps"].items()}
            return cls(folder, content["chain"], steps, [str(one) for one in content.get("overrides", [])])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", "choose another --out") from None
        except JsonError as error:
            raise UsageError(f"{path} cannot be read: {error.what}", "choose another --out") from None

    def write(self) -> None:
        """Replace the file; the old one or the new one is there at every moment.

        Raises:
            EvlgenError: the disk is full or not writable.
        """
        steps = {name: {"fingerprint": one.fingerprint, **asdict(one)} for name, one in self.steps.items()}
        content = {"format": _FORMAT, "chain": self.name, "overrides": self.overrides, "steps": steps}
        write_json(self.folder / STATE_FILE, content, indent=1, hint="free some disk, then --resume")


def kept_overrides(folder: Path) -> list[str]:
    """The overrides of the chain that has run in a folder; none where none has."""
    state = ChainState.read(folder)
    return [] if state is None else state.overrides


def _record(values: dict[str, Any]) -> StepRecord:
    return StepRecord(**{key: value for key, value in values.items() if key != "fingerprint"})
