"""Finding a captioned data set and captioning its media under the names its rows use."""

import json
import tarfile
from pathlib import Path

import pytest

from evlgen.captioning import CaptionRequest, read_captions
from evlgen.errors import UsageError
from evlgen.evaluating.evaluation_sets import find_captioned_set
from evlgen.evaluating.prediction import caption_dataset
from tests.captioning import fakes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """captions.jsonl with two splits, and a tar with their files in sub-folders."""
    rows = [
        {"video": "x/1.mp4", "split": "val", "captions": ["one"]},
        {"video": "y/1.mp4", "split": "val", "captions": ["two"]},
        {"video": "z/9.mp4", "split": "train", "captions": ["nine"]},
    ]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        path = tmp_path / "clips" / str(row["video"])
        fakes.write_video(path, str(row["video"]))
    with tarfile.open(tmp_path / "videos.tar", "w") as tar:
        tar.add(tmp_path / "clips", arcname=".")
    return tmp_path


@pytest.mark.parametrize("media", [None, "clips"])
def test_rows_are_named_as_the_data_set_names_them(
    folder: Path, tmp_path: Path, captioner: fakes.FakeCaptioner, media: str | None
) -> None:
    found = find_captioned_set(folder, split="val", media=folder / media if media else None)
    assert found.media.name == (media or "videos.tar")
    out = tmp_path / "out.jsonl"
    summary = caption_dataset(found, CaptionRequest(sources=(), out=out))
    assert summary.ok == 2
    assert {name: row["caption"] for name, row in read_captions(out).items()} == {n: n for n in ("x/1.mp4", "y/1.mp4")}
    again = caption_dataset(found, CaptionRequest(sources=(), out=out))
    assert (again.ok, again.done_before) == (0, 2)


def test_a_split_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"video": "a.mp4", "captions": ["a"]}\n')
    (tmp_path / "test").mkdir()
    found = find_captioned_set(tmp_path, split="test")
    assert (found.captions.name, found.media.name, found.name) == ("test.jsonl", "test", f"{tmp_path.name}-test")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such data set: .*nowhere"):
        find_captioned_set(tmp_path / "nowhere")
    (tmp_path / "val.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"holds no captions\.jsonl \(--split val\)"):
        find_captioned_set(tmp_path)
    with pytest.raises(UsageError, match=r"no pictures or videos: looked for val\.tar, images\.tar.*--media"):
        find_captioned_set(tmp_path, split="val")
    with pytest.raises(UsageError, match=r"looked for .*gone"):
        find_captioned_set(tmp_path, split="val", media=tmp_path / "gone")


def test_a_name_may_not_lead_out_of_the_tar(folder: Path) -> None:
    (folder / "captions.jsonl").write_text('{"video": "../../evil.mp4", "captions": ["a"]}\n')
    found = find_captioned_set(folder)
    with pytest.raises(UsageError, match=r"leads out of .* \(names must lie below"):
        caption_dataset(found, CaptionRequest(sources=()))
