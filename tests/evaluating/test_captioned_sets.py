"""Published data sets from their folder to scores: found by their files, captioned, paired with their references."""

import tarfile
from pathlib import Path

import pytest

from evlgen.captioning import CaptionRequest, Listener
from evlgen.errors import UsageError
from evlgen.evaluating.evaluation_sets import find_captioned_set
from evlgen.evaluating.prediction import caption_dataset
from evlgen.metrics.evaluation import BootstrapOptions
from evlgen.metrics.file_evaluation import EvaluationRequest, evaluate_files
from evlgen.metrics.scoring import ScoringOptions
from tests.captioning import fakes
from tests.data.published_sets import COCO_TRAIN, MSVD_TEST, MSVD_VAL, SETS, write

FOUND = {  # split asked for, captions, media, split as the file calls it, name, items
    "msrvtt": ("val", "train_val_videodatainfo.json", "TrainValVideo", "validate", "msrvtt-val", ["video2"]),
    "msvd": ("test", "AllVideoDescriptions.txt", "YouTubeClips", "test", "msvd-test", [MSVD_TEST]),
    "vatex": ("test", "vatex_public_test_english_v1.1.json", "test", None, "vatex-test", ["-__-__-__-_000000_000010"]),
    "coco": ("train", "dataset_coco.json", "", "train+restval", "coco-train", ["9", "42"]),
    "flickr30k": ("validation", "dataset_flickr30k.json", "flickr30k-images", "val", "flickr30k-val", ["65567.jpg"]),
    "nocaps": (None, "nocaps_val_4500_captions.json", "val", None, "nocaps-val", ["0", "1"]),
}


def root_of(folder: Path, name: str) -> Path:
    """A miniature whose pictures and videos are the fakes'."""
    root = folder / name
    SETS[name](root)
    for path in root.rglob("*"):
        if path.suffix in {".mp4", ".avi", ".jpg"}:
            fakes.write_video(path, "a b c")
    return root


@pytest.mark.parametrize("name", FOUND)
def test_from_the_folder_to_scores(tmp_path: Path, captioner: fakes.FakeCaptioner, name: str) -> None:
    split, captions, media, rows, label, items = FOUND[name]
    root = root_of(tmp_path, name)
    write(root / "earlier-captions.jsonl", "")
    found = find_captioned_set(root, split=split)
    assert (found.captions, found.media, found.split, found.name) == (root / captions, root / media, rows, label)
    out = tmp_path / "out.jsonl"
    summary = caption_dataset(found, CaptionRequest(sources=(), out=out))
    assert (summary.ok, summary.without_caption) == (len(items), 0)
    request = EvaluationRequest(
        references=found.captions,
        split=found.split,
        scoring=ScoringOptions(metrics=("rouge-l",)),
        bootstrap=BootstrapOptions(samples=0),
    )
    done = evaluate_files(out, request)
    assert [item.id for item in done.result.items] == items
    assert (done.result.complete, done.result.without_references) == (True, ())


def test_flickr30k_by_its_table_and_lists(tmp_path: Path, captioner: fakes.FakeCaptioner) -> None:
    root = root_of(tmp_path, "flickr30k")
    (root / "dataset_flickr30k.json").unlink()
    write(root / "results.csv", "image_name| comment_number| comment\n36979.jpg| 0| a b\n65567.jpg| 4   a c\n")
    write(root / "val.txt", "65567\n")
    found = find_captioned_set(root, split="val")
    out = tmp_path / "out.jsonl"
    assert caption_dataset(found, CaptionRequest(sources=(), out=out)).ok == 1
    done = evaluate_files(out, EvaluationRequest(references=found.captions, split=found.split))
    assert [item.id for item in done.result.items] == ["65567.jpg"]


def test_videos_in_a_tar_keep_their_suffix(tmp_path: Path, captioner: fakes.FakeCaptioner) -> None:
    root = root_of(tmp_path, "msvd")
    with tarfile.open(root / "YouTubeClips.tar", "w") as tar:
        tar.add(root / "YouTubeClips", arcname="YouTubeClips")
    (root / "YouTubeClips").rename(tmp_path / "elsewhere")
    out = tmp_path / "out.jsonl"
    assert caption_dataset(find_captioned_set(root, split="val"), CaptionRequest(sources=(), out=out)).ok == 1
    assert f'"{MSVD_VAL}.avi"' in out.read_text()
    with pytest.raises(UsageError, match=r"no pictures or videos: looked for .*/none \(name the folder"):
        find_captioned_set(root, split="val", media=tmp_path / "none")
    found = find_captioned_set(root, split="val", media=tmp_path / "elsewhere")
    assert found.media == tmp_path / "elsewhere"


def test_a_file_of_a_published_set_by_itself(tmp_path: Path, captioner: fakes.FakeCaptioner) -> None:
    root = root_of(tmp_path, "msvd")
    found = find_captioned_set(root / "AllVideoDescriptions.txt", split="test", media=root / "YouTubeClips")
    out = tmp_path / "out.jsonl"
    assert caption_dataset(found, CaptionRequest(sources=(), out=out)).ok == 1


def test_clips_that_are_gone_are_left_out_and_said(tmp_path: Path, captioner: fakes.FakeCaptioner) -> None:
    root = root_of(tmp_path, "coco")
    (root / "train2014" / COCO_TRAIN).unlink()
    found = find_captioned_set(root, split="train")
    notes: list[str] = []
    listener = Listener()
    listener.on_note = notes.append  # type: ignore[method-assign]
    out = tmp_path / "out.jsonl"
    assert caption_dataset(found, CaptionRequest(sources=(), out=out), listener).ok == 1
    assert notes[0] == (
        f"1 of 2 files that {root / 'dataset_coco.json'} names are not in {root} and are left out: "
        f"train2014/{COCO_TRAIN}"
    )
    done = evaluate_files(out, EvaluationRequest(references=found.captions, split=found.split))
    assert (done.result.complete, list(done.result.without_prediction)) == (False, ["9"])
    for path in (root / "val2014").iterdir():
        path.unlink()
    with pytest.raises(UsageError) as error:
        caption_dataset(found, CaptionRequest(sources=(), out=out))
    assert str(error.value) == (
        f"{root} holds none of the 2 files that {root / 'dataset_coco.json'} names, such as train2014/{COCO_TRAIN} "
        "(name the folder or the tar with --media)"
    )


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    root = root_of(tmp_path, "coco")
    for asked, says in (
        (None, f"{root} is COCO captions, of which split? (--split train or val or test)"),
        ("dev2", "COCO captions has no split 'dev2' (its splits are train, val, test, train2014, val2014, "
                 "train2017, val2017)"),
        ("val2017", f"{root}: COCO captions val2017: no captions file: looked for captions_val2017.json, here or in "
                    f"annotations/; normally from cocodataset.org/#download (evlgen data check coco --root {root})"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as error:
            find_captioned_set(root, split=asked)
        assert str(error.value) == says
    SETS["vqav2"](tmp_path / "vqa")
    with pytest.raises(UsageError) as error:
        find_captioned_set(tmp_path / "vqa", split="val")
    assert str(error.value) == "VQAv2 has questions and answers (expected a data set of captions)"
    SETS["vqav2"](root)
    assert find_captioned_set(root, split="val").captions.name == "dataset_coco.json"
    SETS["flickr30k"](root)
    with pytest.raises(UsageError) as error:
        find_captioned_set(root, split="val")
    assert str(error.value) == (
        f"{root} holds files of COCO captions and Flickr30k (name the captions file itself, and --media)"
    )
    with pytest.raises(UsageError, match=r"holds no val.jsonl or captions.jsonl \(name the captions file itself"):
        find_captioned_set(tmp_path, split="val")
