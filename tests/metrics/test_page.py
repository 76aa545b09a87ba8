"""The HTML page: self-contained, escaped, and saying what the evaluation says."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from evlgen.errors import EvlgenError
from evlgen.metrics.diagnostics import diagnose
from evlgen.metrics.evaluation import BootstrapOptions, Evaluation, Group, Score, ScoredCaption
from evlgen.metrics.evaluation_page import EXTREMES, render_page, write_page
from evlgen.metrics.paper_results import PUBLISHED

VOID = {"meta"}


class Reader(HTMLParser):
    """Collects text, tags with attributes, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.tags)


def evaluation(count: int = 50, **changes: object) -> Evaluation:
    captions = [f"caption {i} <b>&</b>" for i in range(count)]
    items = tuple(
        ScoredCaption(
            f"v{i}.mp4", text, ("one & only", "two <script>alert(1)</script>"), "in", {"CIDEr": float(i), "BLEU-4": 1.0}
        )
        for i, text in enumerate(captions)
    )
    fields: dict[str, object] = {
        "scores": (
            Score("CIDEr", 24.5, (20.25, 28.75)),
            Score("BLEU-4", 1.0),
            Score("METEOR", None, None, "no <Java>"),
        ),
        "groups": (Group("in-domain", 3, (Score("CIDEr", 9.75), Score("METEOR", None, None, "no"))),),
        "diagnostics": diagnose(captions),
        "reference_diagnostics": diagnose(["one"]),
        "items": items,
        "without_references": ("x.mp4",),
        "without_prediction": ("y.mp4", "z.mp4"),
        "failed": {"y.mp4": "timeout"},
        "missing": "skip",
        "rule": "exact ids",
        "bootstrap": BootstrapOptions(500),
        "frequencies": "from the 50 reference sets scored here",
    }
    return Evaluation(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_page_says_what_the_evaluation_says() -> None:
    page = render_page(evaluation(), title="my <model>", source="a.jsonl against b.json")
    reader = Reader(page)
    for said in (
        "my <model>",
        "a.jsonl against b.json",
        "50 captions scored",
        "20.25 – 28.75",
        "skipped: no <Java>",
        "2 reference sets have no prediction and\nwere left out of every score; 1 of them failed with a reason",
        "1 predictions have no references and were not scored",
        "in-domain",
        "9.75",
        "95% intervals from 500 bootstrap resamples",
    ):
        assert said in reader.text
    assert reader.text.count("Best 20 by CIDEr") == reader.text.count("Worst 20 by CIDEr") == 1
    assert reader.count("div", **{"class": "item"}) == 2 * EXTREMES
    best, worst = reader.text.index("v49.mp4"), reader.text.index("v0.mp4")
    assert best < reader.text.index("v48.mp4") < worst < reader.text.index("v1.mp4")


def test_nothing_is_fetched_and_nothing_runs() -> None:
    reader = Reader(render_page(evaluation(), title="t", source="s"))
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "img", "iframe", "b"})
    assert not any(name in attrs for _, attrs in reader.tags for name in ("src", "href", "onclick"))
    assert "<script>alert(1)</script>" in reader.text  # as text


def test_the_histogram_holds_every_caption() -> None:
    reader = Reader(render_page(evaluation(), title="t", source="s"))
    bars = [attrs for tag, attrs in reader.tags if tag == "rect"]
    assert len(bars) == 30
    counts = [
        int(part.split(" captions")[0].split()[-1])
        for part in reader.text.split("\n")
        if " captions with CIDEr" in part
    ]
    assert sum(counts) == 50
    tallest = max(float(bar["height"] or 0) for bar in bars)
    heights = [float(bar["height"] or 0) for bar in bars]
    assert heights == pytest.approx([tallest * c / max(counts) for c in counts], abs=0.06)


def test_few_captions_or_none_with_a_score() -> None:
    few = Reader(render_page(evaluation(3), title="t", source="s"))
    assert "Best 3 by CIDEr" in few.text
    alike = render_page(
        evaluation(1, items=(ScoredCaption("a", "", ("r",), None, {"CIDEr": 0.0}),)), title="t", source="s"
    )
    assert "(empty caption)" in Reader(alike).text
    nothing = render_page(evaluation(2, scores=(Score("METEOR", None, None, "no Java"),)), title="t", source="s")
    assert "Best" not in Reader(nothing).text


def test_published_rows_have_a_section_of_their_own() -> None:
    without = Reader(render_page(evaluation(), title="t", source="s")).text
    assert "EVLGen-video-scst" not in without
    text = Reader(render_page(evaluation(), title="t", source="s", published=[PUBLISHED["msrvtt"]])).text
    assert text.index("Published, not measured here") < text.index("EVLGen-video-scst")


def test_writing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_page(evaluation(), path, title="t", source="s")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "file").touch()
    with pytest.raises(EvlgenError, match=r"file/page.html cannot be written: .*\(choose another --html\)"):
        write_page(evaluation(), tmp_path / "file" / "page.html", title="t", source="s")
