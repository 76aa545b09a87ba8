"""Files beside videos: read by a loader written from musubi-tuner's documentation, and never a person's own lost."""

from pathlib import Path

import pytest

from evlgen.errors import UsageError
from evlgen.exports import CaptionTemplate, ExportOptions, export_captions

from .exported_captions import line, touch, write


def load(directory: Path, caption_extension: str) -> dict[str, str]:
    """By musubi-tuner's documentation: the file's name with the extension in place of its own, stripped."""
    found = {}
    for path in sorted(directory.rglob("*")):
        text = path.with_suffix(caption_extension)
        if path.suffix in (".mp4", ".webm", ".jpg") and text.exists():
            found[path.relative_to(directory).as_posix()] = text.read_text(encoding="utf-8").strip()
    return found


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    touch(tmp_path / "videos", "a.1.mp4", "sub/b.webm", "c.mp4")
    return write(tmp_path / "c.jsonl", line("a.1.mp4", "a dog\nruns"), line("sub/b.webm", "a cat"), line("c.mp4"))


def test_a_trainer_reads_them(captions: Path, tmp_path: Path) -> None:
    report = export_captions(captions, "txt")
    assert load(tmp_path / "videos", ".txt") == {"a.1.mp4": "a dog runs", "sub/b.webm": "a cat"}
    assert (report.captions, report.written, dict(report.lacking)) == (2, 2, {"timeout": 1})
    again = export_captions(captions, "txt")
    assert (again.captions, again.written, again.unchanged) == (2, 0, 2)


def test_words_around_captions(captions: Path, tmp_path: Path) -> None:
    write(captions, line("sub/b.webm", "a cat", tags=[{"name": "tabby", "probability": 0.9}]))
    words = CaptionTemplate("ohwx {x}, ", ".", "{folder}: {caption}, {tags} ({name})")
    export_captions(captions, "txt", options=ExportOptions(words))
    assert load(tmp_path / "videos", ".txt") == {"sub/b.webm": "ohwx {x}, sub: a cat, tabby (b)."}


@pytest.mark.parametrize(
    ("template", "with_tags", "without"),
    [
        ("{caption}, {tags}", "a cat, tabby, sofa", "a cat"),
        ("{tags}, {caption}", "tabby, sofa, a cat", "a cat"),
        ("{folder}, {tags}, {caption}.", "videos, tabby, sofa, a cat.", "videos, a cat."),
        ("{caption} [{tags}]", "a cat [tabby, sofa]", "a cat []"),
    ],
)
def test_what_is_empty_takes_its_comma_along(tmp_path: Path, template: str, with_tags: str, without: str) -> None:
    touch(tmp_path / "videos", "a.mp4", "b.mp4")
    tags = [{"name": name, "probability": 0.5} for name in ("tabby", "sofa")]
    captions = write(tmp_path / "c.jsonl", line("a.mp4", "a cat", tags=tags), line("b.mp4", "a cat"))
    export_captions(captions, "txt", options=ExportOptions(CaptionTemplate(template=template)))
    assert load(tmp_path / "videos", ".txt") == {"a.mp4": with_tags, "b.mp4": without}


def test_ours_are_brought_up_to_date_and_others_left_alone(captions: Path, tmp_path: Path) -> None:
    export_captions(captions, "txt")
    own = tmp_path / "videos" / "sub" / "b.txt"
    own.write_text("a tabby cat, by me")
    with captions.open("a") as file:
        file.write(captions.read_text().replace("a dog", "two dogs").replace("a cat", "two cats"))
    report = export_captions(captions, "txt")
    assert load(tmp_path / "videos", ".txt") == {"a.1.mp4": "two dogs runs", "sub/b.webm": "a tabby cat, by me"}
    assert (report.written, report.kept) == (1, [own])
    words = ExportOptions(CaptionTemplate(prefix="TOK "))
    assert export_captions(captions, "txt", options=words).kept == [own]  # what we wrote without the prefix is ours
    assert load(tmp_path / "videos", ".txt")["a.1.mp4"] == "TOK two dogs runs"
    export_captions(captions, "txt", options=ExportOptions(overwrite=True))
    assert load(tmp_path / "videos", ".txt") == {"a.1.mp4": "two dogs runs", "sub/b.webm": "two cats"}


def test_two_files_of_one_stem_get_none(captions: Path, tmp_path: Path) -> None:
    touch(tmp_path / "videos", "a.1.jpg")
    write(captions, line("a.1.mp4", "a dog"), line("a.1.jpg", "a picture"), line("sub/b.webm", "a cat"))
    report = export_captions(captions, "txt")
    assert load(tmp_path / "videos", ".txt") == {"sub/b.webm": "a cat"}
    assert (report.clashes, report.complete) == (["a.1.mp4", "a.1.jpg"], False)


def test_a_folder_of_their_own(captions: Path, tmp_path: Path) -> None:
    write(captions, line("a.1.mp4", "a dog"), line("../../out.mp4", "leads out"), line("/abs/x.mp4", "elsewhere"))
    assert export_captions(captions, "txt", tmp_path / "texts").written == 3
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt"))
    assert written == ["texts/a.1.txt", "texts/abs/x.txt", "texts/out.txt"]


def test_files_that_are_gone_or_have_moved(captions: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").rename(tmp_path / "moved")
    assert export_captions(captions, "txt").missing == ["a.1.mp4", "sub/b.webm"]
    assert export_captions(captions, "txt", media=tmp_path / "moved").written == 2
    with pytest.raises(UsageError, match=r"--media .*/gone is not a folder"):
        export_captions(captions, "txt", media=tmp_path / "gone")


def test_parts_become_sentences(captions: Path, tmp_path: Path) -> None:
    texts = ["a dog runs", "a dog runs", "it sits."]
    write(
        captions,
        *(line("a.1.mp4", text, start_seconds=float(n), end_seconds=n + 1.0) for n, text in enumerate(texts)),
    )
    export_captions(captions, "txt")
    assert load(tmp_path / "videos", ".txt") == {"a.1.mp4": "a dog runs. it sits."}
