"""Layouts of captions files through both uses: what is trained on and what is scored have the same names and texts."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evlgen.data.captions import read_captions
from evlgen.errors import UsageError
from evlgen.metrics.reading import read_references
from evlgen.recipes import DataSource

WANT = {"a.jpg": ["a dog", "a cat, or so"], "b.jpg": ["größe"]}
SPLITS = {"a.jpg": "train", "b.jpg": "validate"}


def rows(name: str) -> list[dict[str, object]]:
    return [{name: file, "captions": texts, "split": SPLITS[file]} for file, texts in WANT.items()]


def lines(values: list[dict[str, object]]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def table(header: str, delimiter: str) -> str:
    columns = header.split(",")
    cells = [
        {"image_id": str(n), "split": SPLITS[file]}
        | dict.fromkeys(("caption", "text", "description"), f'"{text}"')
        | dict.fromkeys(("file", "path", "image", "file_name", "filename"), file)
        for n, file in enumerate(WANT)
        for text in WANT[file]
    ]
    return "\n".join(delimiter.join(row) for row in [columns, *([one[c] for c in columns] for one in cells)]) + "\n"


KARPATHY = {
    "dataset": "flickr8k",
    "images": [
        {"filename": file, "split": SPLITS[file], "sentences": [{"raw": text} for text in texts]}
        for file, texts in WANT.items()
    ],
}

LAYOUTS = {
    **{f"lines-{name}.jsonl": lines(rows(name)) for name in ("image", "video", "file", "path", "file_name")},
    "list.json": json.dumps(rows("image")),
    "file.csv": table("file,caption,split", ","),
    "image-folder.csv": table("file_name,text,split", ","),
    "described.tsv": table("split,filename,description", "\t"),
    "path.csv": table("path,caption,split", ","),
    "number-and-file.csv": table("image_id,file,caption,split", ","),
    "file.tsv": table("split,caption,image", "\t"),
    "karpathy.json": json.dumps(KARPATHY),
}

PACKED: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "utf-8-sig": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
}


def trained_on(path: Path, split: str | None = None) -> dict[str, list[str]]:
    found = read_captions(DataSource(captions=str(path), split=split), lower_case=False)
    return {item.name: list(item.captions) for item in found.items}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", LAYOUTS)
def test_training_and_scoring_read_the_same(tmp_path: Path, name: str, packed: str) -> None:
    path = tmp_path / name
    path.write_bytes(PACKED[packed](LAYOUTS[name]))
    assert trained_on(path) == read_references(path).captions == WANT
    for split in ("val", "validation", "validate"):
        assert trained_on(path, split) == read_references(path, split=split).captions == {"b.jpg": WANT["b.jpg"]}
    for split in ("train+val", "training+validate"):
        assert trained_on(path, split) == read_references(path, split=split).captions == WANT
    for read in (lambda: trained_on(path, "test"), lambda: read_references(path, split="test")):
        with pytest.raises(UsageError, match=r"split 'test'"):
            read()


def test_a_number_beside_a_file_is_a_second_name(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(LAYOUTS["number-and-file.csv"])
    assert read_references(path).aliases == {"a.jpg": "0", "b.jpg": "1"}


def test_text_that_cannot_be_unpacked_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(gzip.compress(LAYOUTS["lines-file.jsonl"].encode())[:-9])
    for read in (trained_on, read_references):
        with pytest.raises(UsageError, match=r"c\.jsonl .*(cannot be read|not a whole gzip)"):
            read(path)
