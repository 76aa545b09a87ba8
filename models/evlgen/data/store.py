"""Rows of features on disk, with a journal: append-only, so that nothing encoded is lost and nothing is done twice.

A folder holds `facts.json` (what made the rows), `rows.f16`, `rows.crc32` (a checksum each), `journal.jsonl` (one line
an item: name, stamp and hash of its file, its rows, or why it has none) and `probe.npy`. Rows reach the disk before the
journal names them: a run that dies, whatever way, costs what came after the last commit. A later line about a name
replaces an earlier one. Rows are compared with their checksums before they are used, and lines of the journal with
theirs: items that a disk has spoiled are encoded again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from evlgen.data.checksums import SUM, RowCheck, fields_of, row_sums, signed_line
from evlgen.errors import EvlgenError, Failure, UsageError
from evlgen.system.files import is_full
from evlgen.system.jsons import parse_json, write_json
from evlgen.system.locks import locked

COMMIT_SECONDS = 5.0
CHECKED_BYTES = 1 << 30
"""Stores up to this size are compared with their checksums when they are opened, larger ones as they are used."""

FACTS, ROWS, SUMS, JOURNAL, PROBE = "facts.json", "rows.f16", "rows.crc32", "journal.jsonl", "probe.npy"
_NO_SUMS = np.empty(0, SUM)

PROBE_TOLERANCE = 0.05
"""Relative difference that devices and versions of the same kernels may make; other code makes far more."""


@dataclass(frozen=True)
class Entry:
    """What the store knows of a file.

    Attributes:
        name: of the item.
        stamp: of its file when it was encoded, see `MediaStore.stamp`.
        digest: hash of its content; "" where the file was too large to read it whole.
        row: its first row.
        frames: how many it has; its rows are frames x views, views fastest. 0 for a broken one.
        kind: of `Failure`; "" for a good one.
        reason: of `Failure`.
    """

    name: str
    stamp: tuple[int, ...]
    digest: str
    row: int
    frames: int
    kind: str = ""
    reason: str = ""

    @property
    def broken(self) -> Failure:
        """As a broken item."""
        return Failure(self.kind, self.reason, self.name)


class FeatureStore:
    """Features in a folder.

    Args:
        place: the folder; it may not exist yet.
        facts: what makes the rows (`encoder.fingerprint`).
        tokens: per row.
        width: of a token.

    Raises:
        UsageError: the folder holds features that something else made, or something else than features.
    """

    def __init__(self, place: Path, facts: dict[str, Any], *, tokens: int, width: int) -> None:
        self.place, self.facts, self.shape = place, facts, (tokens, width)
        self.row_bytes = tokens * width * 2
        self._check()
        self.entries = self._read()
        self._row_check: RowCheck | None = None

    def _check(self) -> None:
        if not self.place.exists() or not any(self.place.iterdir()):
            return
        try:
            found = parse_json((self.place / FACTS).read_bytes(), str(self.place / FACTS))
        except FileNotFoundError:
            if all(p.name in (PROBE, "lock") or p.suffix == ".part" for p in self.place.iterdir()):
                return  # a run that died at its very start
            raise UsageError(f"{self.place} is not a folder of features", "name a new folder in features") from None
        except (OSError, EvlgenError) as error:
            raise UsageError(f"{self.place / FACTS} cannot be read: {error}", "remove the folder") from None
        if found != self.facts:
            raise UsageError(
                f"the features in {self.place} are of another make: {', '.join(differences(found, self.facts))}",
                "name another folder in features, or go back to what made them; nothing was changed there",
            )

    def _read(self) -> dict[str, Entry]:
        try:
            lines = (self.place / JOURNAL).read_bytes().split(b"\n")
            rows = self._count()
        except OSError:
            return {}
        entries: dict[str, Entry] = {}
        self._whole_bytes = self._rows = 0
        for line in lines[:-1]:  # what follows the last line feed was cut off
            try:
                fields = fields_of(line, JOURNAL)
                entry = Entry(**{**fields, "stamp": tuple(fields["stamp"])})
            except (EvlgenError, TypeError, KeyError):
                self._whole_bytes += len(line) + 1
                continue  # spoiled on the disk: its item is encoded again
            end = entry.row + entry.frames * self.facts["views"]
            if end > rows:  # the rows of this and of what follows were cut off, and others will stand there
                break
            entries[entry.name] = entry
            self._whole_bytes += len(line) + 1
            self._rows = max(self._rows, end)
        return entries

    def _count(self) -> int:
        """Rows that are there with their checksums."""
        rows, sums = (self.place / ROWS).stat().st_size, (self.place / SUMS).stat().st_size
        return min(rows // self.row_bytes, sums // SUM.itemsize)

    def rows(self) -> NDArray[np.float16]:
        """The rows that are there, (R, N, C) float16, as a read-only memory map; see `check_rows`."""
        count = self._count() if (self.place / SUMS).exists() else 0
        if count == 0:
            return np.empty((0, *self.shape), np.float16)
        return np.memmap(self.place / ROWS, dtype=np.float16, mode="r", shape=(count, *self.shape))

    @property
    def bytes_used(self) -> int:
        """How much the rows of all items take on the disk."""
        return sum(entry.frames for entry in self.entries.values()) * int(self.facts["views"]) * self.row_bytes

    def check_rows(self, wanted: Iterable[int]) -> None:
        """Compare rows with their checksums before they are used; each once.

        Raises:
            EvlgenError: some are not what was written. The items of all such rows are encoded again when the store is
                opened the next time.
        """
        if self._row_check is None:
            self._row_check = self._checked()
        if not self._row_check.are_fine(wanted):
            count, total = self.forget_damaged(), len(self.entries)
            raise EvlgenError(
                f"the features of {count} of {count + total} items in {self.place} are damaged on the disk",
                "run the same command again, with --resume if it trains: they are encoded again; and look at the disk",
            )

    def forget_damaged(self) -> int:
        """Take items whose rows are not what was written for items that are not there; returns how many."""
        check, views = self._checked(), self.facts["views"]
        bad = [e for e in self.entries.values() if not check.are_fine(range(e.row, e.row + e.frames * views))]
        for entry in bad:
            del self.entries[entry.name]
        with suppress(OSError):  # in a folder that cannot be written they are so in this process only
            if bad:
                with locked(self.place / "lock"), (self.place / JOURNAL).open("ab") as journal:
                    journal.write(_lines(Entry(entry.name, (), "", 0, 0) for entry in bad))
        return len(bad)

    def _checked(self) -> RowCheck:
        rows = self.rows()
        return RowCheck(rows, np.fromfile(self.place / SUMS, dtype=SUM, count=len(rows)) if len(rows) else _NO_SUMS)

    def check_probe(self, computed: NDArray[np.float16]) -> None:
        """Compare with what the tower computed when the store was made.

        Raises:
            UsageError: it computes something else now, though its fingerprint is the same.
        """
        try:
            kept = np.load(self.place / PROBE).astype(np.float32)
        except (OSError, ValueError, EOFError):
            return
        apart = float(np.linalg.norm(kept - computed.astype(np.float32)))
        if apart > PROBE_TOLERANCE * float(np.linalg.norm(kept)) + 1e-3:
            raise UsageError(
                f"the features in {self.place} were made by other code: the same tower and weights now give values "
                f"that differ by {apart / max(float(np.linalg.norm(kept)), 1e-9):.0%}",
                "go back to the version of timm that made them, or remove the folder",
            )

    @contextmanager
    def writing(self, probe: NDArray[np.float16]) -> Iterator[Writer]:
        """Append to the store; one process at a time, others wait here and then find what was done.

        Raises:
            EvlgenError: the folder cannot be written, or its disk is full; what was committed stays.
        """
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with locked(self.place / "lock"):
                self._check()  # another process may have been first
                if not (self.place / FACTS).exists():
                    np.save(self.place / PROBE, probe)
                    write_json(self.place / FACTS, self.facts, indent=1)
                self._whole_bytes = self._rows = 0
                self.entries = self._read()
                with ExitStack() as files:
                    rows, sums, journal = (
                        files.enter_context((self.place / name).open("ab")) for name in (ROWS, SUMS, JOURNAL)
                    )
                    rows.truncate(self._rows * self.row_bytes)
                    sums.truncate(self._rows * SUM.itemsize)
                    journal.truncate(self._whole_bytes)
                    writer = Writer(self, rows, sums, journal, self._rows)
                    try:
                        yield writer
                    finally:
                        writer.commit()
        except OSError as error:
            if not str(error.filename or self.place).startswith(str(self.place)):
                raise
            full = is_full(error)
            what = "no space is left on its disk" if full else (error.strerror or str(error))
            hint = "free some, or name a folder elsewhere in features or EVLGEN_CACHE"
            raise EvlgenError(
                f"features cannot be written to {self.place}: {what}; those of {len(self.entries)} items are kept",
                f"{hint}; the same command goes on from there" if full else hint,
            ) from None


class Writer:
    """Appends rows with their checksums, and journal lines behind them."""

    def __init__(self, store: FeatureStore, rows: BinaryIO, sums: BinaryIO, journal: BinaryIO, count: int) -> None:
        self._store, self._rows, self._sums, self._journal = store, rows, sums, journal
        self.count = count
        self._lines: list[Entry] = []
        self._committed = time.monotonic()

    def add_rows(self, features: NDArray[np.float16]) -> int:
        """Append (R, N, C); returns how many rows there are then."""
        self._rows.write(np.ascontiguousarray(features).data)
        self._sums.write(row_sums(features).tobytes())
        self.count += len(features)
        return self.count

    def add_entry(self, entry: Entry) -> None:
        """Name an item whose rows have been added."""
        self._lines.append(entry)
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write through to the disk: first rows, then the lines that name them."""
        for file, content in ((self._rows, b""), (self._sums, b""), (self._journal, _lines(self._lines))):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._store.entries.update({entry.name: entry for entry in self._lines})
        self._lines.clear()
        self._committed = time.monotonic()


def _lines(entries: Iterable[Entry]) -> bytes:
    return "".join(signed_line(asdict(entry)) for entry in entries).encode()


def differences(found: Any, wanted: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words: "vision.name is a, the recipe says b"."""
    before, after = (_flat(f) if isinstance(f, dict) else {} for f in (found, wanted))
    keys = [k for k in after if before.get(k) != after[k]] + [k for k in before if k not in after]
    if "weights" in keys and len(keys) > 1:
        keys = [k for k in keys if k != "weights"]  # another tower has other weights
    return [f"{k} is {before.get(k, 'not said')} there and {after.get(k, 'not said')} here" for k in keys[:4]]


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out
