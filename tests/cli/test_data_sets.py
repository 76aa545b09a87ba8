"""`evlgen data check NAME` and `evlgen data ls` as a user types them: whole outputs and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from evlgen.data.datasets.registry import SETS as KNOWN
from evlgen_cli.exits import Exit
from tests.data.published_sets import SETS

Cli = Callable[..., Result]


def test_a_whole_set(cli: Cli, tmp_path: Path) -> None:
    SETS["vqav2"](tmp_path / "vqa")
    done = cli("data", "check", "vqav2", "--root", "vqa", "--split", "val")
    assert (done.exit_code, done.stdout, done.stderr) == (
        Exit.OK,
        "VQAv2 in vqa\n"
        "split  file                                        questions  answers  media    found   broken  verdict\n"
        "val    v2_OpenEnded_mscoco_val2014_questions.json  2          4        val2014  1 of 1  0       fine\n",
        "note: val: 2 questions, officially 214354\n",
    )


def test_a_damaged_set(cli: Cli, tmp_path: Path) -> None:
    SETS["msrvtt"](tmp_path)
    video = tmp_path / "TrainValVideo"
    (video / "video0.mp4").write_bytes((video / "video0.mp4").read_bytes()[:-10])
    (video / "video1.mp4").write_bytes(b"")
    (video / "video2.mp4").rename(video / "video2000.mp4")
    (tmp_path / "test_videodatainfo.json").unlink()
    done = cli("data", "check", "msrvtt", "--root", ".")
    assert done.exit_code == Exit.SOME_FAILED
    assert done.stdout == (
        "MSR-VTT in .\n"
        "split  file                          items  captions  media          found   broken               verdict\n"
        "train  train_val_videodatainfo.json  2      3         TrainValVideo  2 of 2  1 cut, 1 empty-file  look below\n"
        "val    train_val_videodatainfo.json  1      2         TrainValVideo  0 of 1  1 missing            look below\n"
        "test   -                             0      0         TestVideo      0 of 0  0                    missing\n"
    )
    assert done.stderr == (
        "train: video0: the file is cut: 10 bytes are missing by its own account\n"
        "train: video1: the file is empty\n"
        f"val: video2: {video} holds no such file\n"
        "test: no captions file: looked for test_videodatainfo.json, MSRVTT_data.json, here or in annotations/, "
        "annotation/, test_annotation/; normally from train_val_annotation.zip and test_videodatainfo.zip of the "
        "MSR-VTT 2016 challenge\n"
        "note: train: 2 items, officially 6513\n"
        "note: train: 3 captions, officially 130260\n"
        "note: val: 1 items, officially 497\n"
        "note: val: 2 captions, officially 9940\n"
        "note: TrainValVideo: 1 file has no captions: video2000.mp4\n"
    )


def test_decoding_and_json(cli: Cli, tmp_path: Path) -> None:
    SETS["nocaps"](tmp_path)
    (tmp_path / "val" / "0a1b2c3d4e5f6071.jpg").write_bytes(b"no picture")
    assert cli("data", "check", "nocaps", "--root", ".").exit_code == Exit.OK
    done = cli("data", "check", "nocaps", "--root", ".", "--decode", "--json")
    assert done.exit_code == Exit.SOME_FAILED
    value = json.loads(done.stdout)
    reason = value["splits"][0]["broken"][0].pop("reason")
    assert reason.startswith("it cannot be decoded: UnidentifiedImageError: ")
    assert value == {
        "name": "nocaps",
        "title": "NoCaps",
        "root": ".",
        "is_fine": False,
        "splits": [
            {
                "split": "val",
                "file": "nocaps_val_4500_captions.json",
                "answers_file": "",
                "media": "val",
                "items": 2,
                "texts": 3,
                "official_items": 4500,
                "official_texts": 45000,
                "files": 2,
                "found": 2,
                "frames": 1,
                "missing": [],
                "error": "",
                "broken": [{"name": "0a1b2c3d4e5f6071.jpg", "kind": "decode-error"}],
                "repeated": [],
                "notes": ["2 items, officially 4500", "3 captions, officially 45000"],
                "checked": True,
                "counts": {"decode-error": 1},
                "is_fine": False,
            }
        ],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["msrvt", "--root", "."], "no data set is called 'msrvt' (did you mean msrvtt or msvd?)"),
        (["msvd", "--root", "no"], "no is not a folder (expected the folder that holds the files of MSVD)"),
        (["msvd"], "where is MSVD? (evlgen data check msvd --root DIR)"),
        (["msvd", "--root", ".", "--split", "dev2"], "MSVD has no split 'dev2' (its splits are train, val, test)"),
        (["gqa", "--root", "."], ". holds no files of GQA: looked for train_balanced_questions.json, "
                                 "val_balanced_questions.json, testdev_balanced_questions.json, here or in "
                                 "questions1.2/, questions/, annotations/ (normally from "
                                 "cs.stanford.edu/people/dorarad/gqa/download.html)"),
        ([], "give a data set or --recipe, one of the two (evlgen data check msvd --root DIR)"),
        (["msvd", "--recipe", "r"], "give a data set or --recipe, one of the two (evlgen data check msvd --root DIR)"),
        (["--recipe", "r", "--root", "."], "--root and --split are for a data set by its name (with --recipe leave "
                                           "them away)"),
        (["msvd", "--root", ".", "--set", "a=b"], "--set is for --recipe (with msvd leave it away)"),
    ],
)  # fmt: skip
def test_wrong_usage(cli: Cli, arguments: list[str], says: str) -> None:
    done = cli("data", "check", *arguments)
    assert (done.exit_code, done.stdout, done.stderr) == (Exit.USAGE, "", f"error: {says}\n")


def test_the_list(cli: Cli) -> None:
    done = cli("data", "ls")
    assert done.exit_code == Exit.OK
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["name", "data", "set", "of", "split", "size", "about", "terms"]
    assert len(rows) - 1 == sum(len(known.splits) for known in KNOWN.values())
    line = next(one for one in done.stdout.splitlines() if one.startswith("msrvtt"))
    assert line.split("  ")[0] == "msrvtt"
    assert "train      6513 videos       130260 captions" in line
    assert line.endswith("research only; clips of YouTube")
    listed = json.loads(cli("data", "ls", "--json").stdout)
    assert [one["name"] for one in listed] == list(KNOWN)
    msvd = next(one for one in listed if one["name"] == "msvd")
    assert msvd["splits"][1] == {
        "name": "val",
        "items": 100,
        "captions": None,
        "layouts": [
            {
                "captions": [
                    "AllVideoDescriptions.txt",
                    "annotations/AllVideoDescriptions.txt",
                    "video_corpus.csv",
                    "annotations/video_corpus.csv",
                ],
                "media": ["YouTubeClips/", "MSVD_Videos/", "videos/"],
                "rows": "val",
                "lists": ["youtube_mapping.txt", "train_list.txt"],
                "answers": [],
            }
        ],
        "optional": False,
        "note": "",
    }
