"""Shards, read by the library webdataset."""

import json
from pathlib import Path
from typing import Any

import pytest
import webdataset

from evlgen.errors import UsageError
from evlgen.exports import CaptionTemplate, ExportOptions, export_captions

from .exported_captions import line, touch, write


def samples(folder: Path) -> list[dict[str, Any]]:
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    return list(webdataset.WebDataset(shards, shardshuffle=False))


def test_webdataset_reads_videos_with_captions(tmp_path: Path) -> None:
    names = ["a.1.mp4", "a.1.webm", "sub.x/a.1.mp4", "漢.mp4"]
    touch(tmp_path / "videos", *names)
    captions = write(tmp_path / "c.jsonl", *(line(name, f"a caption of {name} é") for name in names), line("bad.mp4"))
    report = export_captions(captions, "webdataset", options=ExportOptions(CaptionTemplate(prefix="TOK ")))
    read = samples(tmp_path / "c-shards")
    assert [one["__key__"] for one in read] == ["a_1", "a_1-2", "sub_x/a_1", "漢"]
    for name, one in zip(names, read, strict=True):
        assert one[Path(name).suffix[1:]] == f"content of {name}".encode()
        assert one["txt"].decode() == f"TOK a caption of {name} é"
        said = json.loads(one["json"])
        assert (said["video"], said["rows"][0]["log_probability"]) == (name, -6.0)
    assert (report.captions, dict(report.lacking)) == (4, {"timeout": 1})


def test_sizes_of_shards_and_what_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in "abc":
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(bytes(600_000))
    captions = write(tmp_path / "c.jsonl", *(line(f"{name}.mp4", name) for name in "abc"))
    assert export_captions(captions, "webdataset", options=ExportOptions(shard_megabytes=1)).written == 3
    before = (tmp_path / "c-shards" / "00000.tar").read_bytes()
    with pytest.raises(UsageError, match=r"holds shards already, such as 00000.tar"):
        export_captions(captions, "webdataset")
    options = ExportOptions(shard_megabytes=1, overwrite=True)
    export_captions(captions, "webdataset", options=options)
    assert (tmp_path / "c-shards" / "00000.tar").read_bytes() == before
    assert export_captions(captions, "webdataset", options=ExportOptions(overwrite=True)).written == 1
    assert [one["__key__"] for one in samples(tmp_path / "c-shards")] == ["a", "b", "c"]
