"""Layouts of captions files through both uses: what is trained on and what is scored have the same names and texts."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evlgen.data.caption_sources import read_captions
from evlgen.errors import UsageError
from evlgen.metrics.references import read_references
from evlgen.recipes import DataSource
from tests.annotations.caption_files import COCO, MSR_VTT

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
        | dict.fromkeys(("caption", "text", "description", "sentence"), f'"{text}"')
        | dict.fromkeys(("file", "path", "image", "file_name", "filename", "id"), file)
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
    "number.jsonl": lines(rows("image_id")),
    "id.csv": table("id,sentence,split", ";"),
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


COCO_KARPATHY = {
    "images": [
        {"filepath": "val2014", "cocoid": 9, "imgid": 0, "filename": "n.jpg", "sentences": [{"raw": "q", "x": []}]},
        {"filepath": "val2014", "cocoid": 10, "imgid": 1, "filename": "t.jpg", "sentences": [{"raw": "p"}]},
    ]
}
NOCAPS = {
    "images": [{"id": 0, "file_name": "f0.jpg", "domain": "in-domain"}, {"id": 1, "domain": "near-domain"}],
    "annotations": [{"image_id": 0, "caption": "p"}, {"image_id": 1, "caption": "q"}, {"image_id": 0, "caption": "r"}],
}
CLIPS = "mv89psg6zh4_33_46", "-4wsuPCjDBc_5_15"
MSVD_TABLE = f"""VideoID,Start,End,Language,Description
{CLIPS[0].replace("_", ",")},English,"p, p"
{CLIPS[0].replace("_", ",")},German,nein
{CLIPS[1].replace("_", ",")},English,q
"""
TWO = {"a.mp4": ["p", "r"], "b.mp4": ["q"]}

PUBLISHED: dict[str, tuple[object, dict[str, list[str]], list[str]]] = {
    "MSR-VTT's videodatainfo": (MSR_VTT, {"video1": ["q"], "video0": ["p", "r"]}, []),
    "COCO": (COCO, {"COCO_val2014_000000000009.jpg": ["q"], "x.jpg": ["p", "r"]}, ["9", "10"]),
    "COCO without images": ({"annotations": COCO["annotations"]}, {"10": ["p", "r"], "9": ["q"]}, []),
    "Karpathy's COCO": (COCO_KARPATHY, {"val2014/n.jpg": ["q"], "val2014/t.jpg": ["p"]}, ["9", "10"]),
    "NoCaps": (NOCAPS, {"f0.jpg": ["p", "r"], "1": ["q"]}, ["0", "1"]),
    "VATEX": ([{"videoID": CLIPS[0], "enCap": ["p", " ", "r"], "chCap": ["z"]}], {CLIPS[0]: ["p", "r"]}, []),
    "MSVD's text": (
        f"# comment\n\n{CLIPS[0]} p p\n{CLIPS[1]} q\n{CLIPS[0]} r\n",
        {CLIPS[0]: ["p p", "r"], CLIPS[1]: ["q"]},
        [],
    ),
    "MSVD's table": (MSVD_TABLE, {CLIPS[0]: ["p, p"], CLIPS[1]: ["q"]}, []),
    "Flickr30k's text": ('n.jpg#0\tp "p" .\nn.jpg#1\tr\n', {"n.jpg": ['p "p" .', "r"]}, []),
    "Flickr30k's table": (
        'image_name| comment_number| comment\na.jpg| 0| "p" , p\na.jpg| 4   A dog .\n',
        {"a.jpg": ['"p" , p', "A dog ."]},
        [],
    ),
    "text": ("a.mp4 p\na.mp4 r\nb.mp4 q\n", TWO, []),
    "{id: captions}": (TWO, TWO, []),
    "{id: rows}": ({"9": [{"image_id": 9, "id": 1, "caption": "p"}]}, {"9": ["p"]}, []),
    "{captions: rows}": ({"captions": [{"video": "a", "captions": ["p"]}]}, {"a": ["p"]}, []),
    "a row": ({"video": "a", "captions": ["p"]}, {"a": ["p"]}, []),
    "video_id,sentence": ("video_id,sentence\na.mp4,p\nb.mp4,q\na.mp4,r\n", TWO, []),
    "id,caption": ("Id;Caption\na.mp4;p\na.mp4;r\nb.mp4;q\n", TWO, []),
    "numbers": (lines([{"image_id": 5, "caption": "p"}, {"image_id": 5.0, "caption": "r"}]), {"5": ["p", "r"]}, []),
    "numbered captions": ("file_name,caption_1,caption_2\na.mp4,p,r\nb.mp4,q,\n", TWO, []),
    "null": (lines([{"file": "a", "captions": ["p"]}, {"file": "b", "caption": None}]), {"a": ["p"]}, []),
}  # fmt: skip
"""Content, captions by file as they are trained on, and the ids by which they are scored if they are others."""


@pytest.mark.parametrize("packed", ["plain", "gzip", "utf-16"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layout_is_trained_on_and_scored(tmp_path: Path, name: str, packed: str) -> None:
    content, want, ids = PUBLISHED[name]
    path = tmp_path / "captions"
    path.write_bytes(PACKED[packed](content if isinstance(content, str) else json.dumps(content)))
    assert trained_on(path) == want
    scored = read_references(path)
    assert scored.captions == dict(zip(ids or want, want.values(), strict=True))
    assert list(scored.captions) == (ids or list(want))
    for key, file in zip(ids, want, strict=False):
        assert file in (key, alias := scored.aliases.get(key), f"val2014/{alias}")


def test_a_number_beside_a_file_is_a_second_name(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(LAYOUTS["number-and-file.csv"])
    assert read_references(path).aliases == {"a.jpg": "0", "b.jpg": "1"}


def test_text_that_cannot_be_unpacked_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(gzip.compress(LAYOUTS["lines-file.jsonl"].encode())[:-9])
    for read in (trained_on, read_references):
        with pytest.raises(UsageError, match=r"c\.jsonl is not a whole gzip"):
            read(path)
