"""Tables, read by those who read them elsewhere: csv and pandas, pyarrow, pycocotools, and by musubi-tuner's rules."""

import csv
import json
from pathlib import Path

import pandas
import pytest
from pyarrow import parquet
from pycocotools.coco import COCO

from evlgen.errors import UsageError
from evlgen.exports import CaptionTemplate, ExportOptions, export_captions
from evlgen.exports.tables import coco_ids

from .exported_captions import line, touch, write

ODD = 'a "quoted", comma\nand a line; =1+1 é 漢 </script>'


def test_csv(tmp_path: Path) -> None:
    captions = write(
        tmp_path / "c.jsonl",
        line("a.mp4", "of before"),
        line("b.mp4", ODD, duration_seconds=None),
        line("c.mp4"),
        line("d.mp4", ""),
        line("a.mp4", "by hand", edited=True, log_probability=None),
    )
    report = export_captions(captions, "csv")
    assert (report.captions, dict(report.lacking), report.complete) == (2, {"timeout": 1, "empty": 1}, False)
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["caption"], row["edited"]) for row in rows] == [
        ("a.mp4", "by hand", "True"),
        ("b.mp4", ODD, "False"),
    ]
    frame = pandas.read_csv(tmp_path / "c.csv")
    assert list(frame["caption"]) == ["by hand", ODD]
    assert frame["log_probability"].isna().tolist() == [True, False]
    assert frame["duration_seconds"].tolist()[0] == 2.0


def test_parquet(tmp_path: Path) -> None:
    captions = write(
        tmp_path / "c.jsonl",
        line("a.mp4", ODD, tags=[{"name": "jeep", "probability": 0.5}], warnings=["still: all alike"]),
        line(
            "b\udcff.mp4",
            "no text in its name",
            log_probability="-3",
            token_count=1.5,
            tags=7,
            timestamps_seconds=[None, 1],
        ),
    )
    export_captions(captions, "parquet")
    rows = parquet.read_table(tmp_path / "c.parquet").to_pylist()
    assert rows[0]["caption"] == ODD
    assert rows[0]["tags"] == [{"name": "jeep", "probability": 0.5}]
    assert (rows[0]["warnings"], rows[0]["timestamps_seconds"]) == (["still: all alike"], [0.5, 1.5])
    assert (rows[0]["log_probability"], rows[0]["token_count"], rows[0]["model"]) == (-6.0, 4, "evlgen-mini")
    assert (rows[1]["video"], rows[1]["log_probability"], rows[1]["token_count"]) == ("b\ufffd.mp4", None, None)
    assert (rows[1]["tags"], rows[1]["timestamps_seconds"]) == ([], [1.0])
    assert pandas.read_parquet(tmp_path / "c.parquet").dtypes["log_probability"] == "float64"
    write(captions, line("a.mp4"))
    export_captions(captions, "parquet")
    assert parquet.read_table(tmp_path / "c.parquet").num_rows == 0
    assert pandas.read_parquet(tmp_path / "c.parquet").dtypes["log_probability"] == "float64"


def test_coco_results_are_loaded_beside_their_annotations(tmp_path: Path) -> None:
    names = {"val/COCO_val2014_000000391895.jpg": 391895, "val/COCO_val2014_000000000007.jpg": 7}
    captions = write(tmp_path / "c.jsonl", *(line(name, f"caption of {id}") for name, id in names.items()))
    annotations = {
        "images": [{"id": id} for id in names.values()],
        "annotations": [{"id": 1, "image_id": 7, "caption": "seven"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    export_captions(captions, "coco")
    results = COCO(str(tmp_path / "annotations.json")).loadRes(str(tmp_path / "c.coco.json"))
    assert [one["caption"] for one in results.loadAnns(results.getAnnIds(imgIds=[391895]))] == ["caption of 391895"]


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["007.mp4", "sub/8.mp4"], [7, 8]),
        (["7.mp4", "sub/007.mp4"], ["7", "sub/007"]),  # one number twice
        (["7.mp4", "video8.mp4"], ["7", "video8"]),
        (["7.mp4", "7.webm"], ["7.mp4", "7.webm"]),
    ],
)
def test_coco_ids(names: list[str], ids: list[int | str]) -> None:
    assert list(coco_ids(names).values()) == ids


def test_coco_has_no_place_for_parts(tmp_path: Path) -> None:
    parts = [line("a.mp4", f"part {n}", start_seconds=n, end_seconds=n + 1) for n in range(2)]
    with pytest.raises(UsageError, match=r"COCO results hold one caption an item, and a.mp4 has captions of several"):
        export_captions(write(tmp_path / "c.jsonl", *parts), "coco")


def read_musubi(path: Path, key: str) -> dict[str, str]:
    """By musubi-tuner's documentation: a JSON object a line, with the path of the file and its caption."""
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    assert all(set(row) == {key, "caption"} and Path(row[key]).is_file() for row in rows)
    return {Path(row[key]).name: row["caption"] for row in rows}


def test_musubi_lists_have_videos_and_pictures_apart(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "a.mp4", "p.jpg")
    captions = write(tmp_path / "c.jsonl", line("a.mp4", ODD), line("p.jpg", "a picture"), line("gone.mp4", "x"))
    report = export_captions(captions, "musubi", options=ExportOptions(CaptionTemplate(prefix="ohwx, ")))
    assert read_musubi(tmp_path / "c.musubi.jsonl", "video_path") == {"a.mp4": f"ohwx, {' '.join(ODD.split())}"}
    assert read_musubi(tmp_path / "c.musubi-images.jsonl", "image_path") == {"p.jpg": "ohwx, a picture"}
    assert (report.written, report.missing, report.complete) == (2, ["gone.mp4"], False)


def test_metadata_lies_with_its_files_and_names_them_from_there(tmp_path: Path) -> None:
    touch(tmp_path / "videos", "a.mp4", "sub/b.mp4")
    captions = write(tmp_path / "c.jsonl", line("a.mp4", ODD), line("sub/b.mp4", "b"))
    for to in ("metadata-csv", "metadata-jsonl"):
        assert export_captions(captions, to).complete
    with (tmp_path / "videos" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"file_name": "a.mp4", "text": " ".join(ODD.split())},
        {"file_name": "sub/b.mp4", "text": "b"},
    ]
    text = (tmp_path / "videos" / "metadata.jsonl").read_text(encoding="utf-8")
    assert [json.loads(one) for one in text.splitlines()] == rows
