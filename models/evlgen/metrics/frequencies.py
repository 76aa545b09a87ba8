"""In how many items of a corpus each n-gram occurs: what CIDEr weighs n-grams by, kept in a file of plain JSON.

CIDEr as a reward needs the frequencies of the training captions in every process and every run, and scores of single
captions are comparable only under the same frequencies; so they are a thing of their own that can be saved.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from evlgen.errors import UsageError
from evlgen.metrics.ngrams import MAX_N, count_ngrams
from evlgen.system.files import write_bytes
from evlgen.system.jsons import JsonError, parse_json

FORMAT = "evlgen document frequencies"
VERSION = 1


@dataclass(frozen=True)
class DocumentFrequencies:
    """Immutable document frequencies; a document is an item with all its references.

    Raises:
        UsageError: no documents.
    """

    documents: int
    counts: Mapping[str, int]
    """For each n-gram (its words joined by a space): how many documents have it. What is not here occurs nowhere."""

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise UsageError("document frequencies need at least one item with reference captions")
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Read-only views cannot be pickled, and worker processes get this by pickle."""
        return type(self), (self.documents, dict(self.counts))

    @classmethod
    def from_references(cls, references: Sequence[Sequence[str]]) -> Self:
        """Count over items, each with its tokenized reference captions.

        Raises:
            UsageError: no items, or an item without references.
        """
        counted = count_ngrams(references)
        frequencies = dict(zip(counted.texts(), counted.document_frequencies().tolist(), strict=True))
        return cls(len(counted.sizes), frequencies)

    def save(self, path: str | Path) -> None:
        """Write a JSON file, compressed if its name ends in .gz; the file appears whole or not at all.

        Raises:
            EvlgenError: it cannot be written there.
        """
        path = Path(path)
        content = json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "documents": self.documents,
                "max_n": MAX_N,
                "counts": dict(self.counts),
            }
        ).encode()
        if path.suffix == ".gz":
            content = gzip.compress(content, compresslevel=6, mtime=0)  # no time in it: same counts, same bytes
        write_bytes(path, content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, compressed or not.

        Raises:
            UsageError: no such file, or not a whole file of document frequencies; the file is named.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
            if content[:2] == b"\x1f\x8b":
                content = gzip.decompress(content)
            fields = parse_json(content, str(path), keep_halves=True)
        except (JsonError, EOFError, zlib.error, gzip.BadGzipFile):
            raise UsageError(f"{path} is not a whole JSON file of document frequencies", _HINT) from None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}", _HINT) from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise UsageError(f"{path} holds no document frequencies", _HINT)
        if fields.get("version") != VERSION:
            raise UsageError(
                f"{path} holds document frequencies of version {fields.get('version')!r}, expected {VERSION}",
                "count them again from the reference captions",
            )
        if not _sound(fields):
            raise UsageError(
                f"{path} holds damaged document frequencies", "count them again from the reference captions"
            )
        return cls(fields["documents"], fields["counts"])


_HINT = "expected a file written by DocumentFrequencies.save"


def _sound(fields: dict[str, Any]) -> bool:
    """Whether every field is there and no n-gram occurs in more documents than there are."""
    documents, counts = fields.get("documents"), fields.get("counts")
    if type(documents) is not int or documents < 1 or not isinstance(counts, dict):
        return False
    if fields.get("max_n") != MAX_N or fields.get("end_token") is not None:  # counted for something else
        return False
    return all(type(count) is int and 0 < count <= documents for count in counts.values())
