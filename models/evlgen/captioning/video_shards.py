"""A part of the videos for each of several machines, which need not know of each other: `--shard 0/4`, `--shard auto`.

Which part a video belongs to is decided by its name alone (SHA-256, modulo the number of parts), so that new videos
move no old ones. Each part writes a file of its own, `captions.shard-0-of-4.jsonl`; `evlgen merge` makes one of them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evlgen.errors import UsageError

_MOST_PARTS = 1_000_000
_VARIABLES = (
    ("torchrun", "RANK", "WORLD_SIZE", ""),
    ("a Slurm array", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("srun", "SLURM_PROCID", "SLURM_NTASKS", ""),
    ("an indexed job of Kubernetes", "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
)
"""Who sets which: number of this process, how many there are, and the first number where that need not be 0."""


@dataclass(frozen=True)
class VideoShard:
    """One of `count` parts, counted from 0.

    >>> VideoShard(0, 2).holds("a.mp4"), VideoShard(1, 2).holds("a.mp4")
    (True, False)
    >>> VideoShard(3, 4).path_of(Path("captions.jsonl")).name
    'captions.shard-3-of-4.jsonl'
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> VideoShard:
        """The part that `--shard` names.

        Args:
            text: "I/N", "auto", or "auto/N" where only the number of this process is in the environment.
            environment: variables that `auto` looks at; None: those of this process.

        Raises:
            UsageError: it is none of these, I is not below N, or nothing in the environment tells.
        """
        first, slash, count = text.partition("/")
        variables = os.environ if environment is None else environment
        if first == "auto" and (not slash or re.fullmatch(r"\d{1,7}", count)):
            return cls._found(variables, int(count) if slash else None)
        if not re.fullmatch(r"\d{1,7}/\d{1,7}", text):
            raise UsageError(f"--shard {text} is no part", "give 0/4 for the first of four, or auto")
        return cls._checked(int(first), int(count), f"--shard {text}")

    @classmethod
    def _found(cls, variables: Mapping[str, str], count: int | None) -> VideoShard:
        for who, number, total, least in _VARIABLES:
            values = [variables.get(name, "") for name in (number, total, least)]
            if values[0].isdecimal() and (count is not None or values[1].isdecimal()):
                index = int(values[0]) - (int(values[2]) if values[2].isdecimal() else 0)
                return cls._checked(index, count if count is not None else int(values[1]), f"--shard auto, from {who}")
        names = ", ".join(f"{number} and {total}" for _, number, total, _ in _VARIABLES)
        raise UsageError(
            f"--shard auto finds none of {names} in the environment",
            "start it by torchrun or srun, give auto/N where only the first of them is set, or I/N",
        )

    @classmethod
    def _checked(cls, index: int, count: int, said: str) -> VideoShard:
        if not 0 <= index < count <= _MOST_PARTS:
            raise UsageError(f"{said}: part {index} of {count} is not one of 0 to {count - 1}", "parts count from 0")
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the video of this name is in this part."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    def path_of(self, out: Path) -> Path:
        """The file of this part, beside that of the whole."""
        return out.with_name(f"{out.stem}.shard-{self.index}-of-{self.count}{out.suffix}")
