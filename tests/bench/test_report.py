"""Rows, remarks, changes, the picture and the page of a report that was written by hand."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from evlgen.bench.curve_plot import panels_of, plot_report, series_of
from evlgen.bench.page import render_page, write_page
from evlgen.bench.report_rows import compare_reports, remarks, rows_of
from evlgen.errors import UsageError
from tests.exports.browser import chromium, show

HOSTILE = "</title><script>hacked = 1</script>"


def times(median: float, fastest: float, slowest: float) -> dict[str, Any]:
    values = {"median_seconds": median, "p95_seconds": slowest, "fastest_seconds": fastest, "slowest_seconds": slowest}
    return {**values, "times_as_fast": 1.0, "rounds": 5}


def report_of(seconds: float = 0.8, *, name: str = "mini") -> dict[str, Any]:
    """Merging at 0, 4 and 8, and pooling beside 8; trained at 4, broken at 8."""
    connectors, captioned, points = [], [], []
    rows = (
        ("r=0", "merge", "0", 81, 20.0, (18.0, 22.0), (-1.0, (-2.0, 0.5))),
        ("r=4", "merge", "4", 57, 21.0, (19.0, 23.0), None),
        ("r=8", "merge", "8", 33, 18.0, (16.0, 20.0), (-3.0, (-4.0, -2.0))),
        ("pool 5x6", "pool", "8", 30, 16.0, (14.0, 18.0), (-2.0, (-3.0, -0.5))),
    )
    for variant, way, r, tokens, cider, interval, change in rows:
        flops = {"vision": 1_000_000_000, "connector": tokens * 1_000_000, "language": tokens * 10_000_000}
        connectors.append({"name": variant, "way": way, "r": r, "soft_prompts": tokens, "caption": flops, "frames": 4})
        phases = {"vision": times(0.1, 0.09, 0.12), "steps": times(0.2, 0.19, 0.22)}
        for batch in (1, 8):
            whole = times(seconds * tokens / 81, 0.9 * seconds * tokens / 81, 1.1 * seconds * tokens / 81)
            captioned.append(
                {"name": variant, "batch": batch, "phases": phases, "caption": whole, "peak_memory_bytes": None}
            )
        against = "" if change is None else "r=4" if way == "merge" else "r=8"
        told = None if change is None else {"change": change[0], "interval": list(change[1]), "significant": True}
        points.append(
            {"name": variant, "way": way, "r": r, "trained": variant == "r=4", "captions": {}, "against": against,
             "scores": {"CIDEr": {"value": cider, "interval": list(interval)}}, "change": told, "key": variant}
        )  # fmt: skip
    model = {"name": name, "new_tokens": 20, "connectors": connectors, "connector_times": [], "points": points}
    model |= {"caption_times": captioned, "peak_memory_bytes": 2_000_000_000}
    return {"version": "1", "precision": "float32", "machine": {"device": "cpu"}, "models": [model]}


def test_rows_and_what_they_say() -> None:
    rows = rows_of(report_of())
    assert [row.name for row in rows] == ["r=0", "r=4", "r=8", "pool 5x6"]
    assert (rows[2].seconds, rows[2].batch) == (pytest.approx(0.8 * 33 / 81 / 8), 8)
    assert rows[0].flops == 1_000_000_000 + 81 * 11_000_000
    assert list(remarks(rows)) == [
        "mini: quality breaks at r=8 (33 tokens): CIDEr -3.00 (-4.00 to -2.00) against r=4",
        "mini: pool 5x6 (30 tokens) is worse than merging: CIDEr -2.00 (-3.00 to -0.50) against r=8",
    ]
    assert panels_of(rows) == [
        ("soft prompts of an item", "CIDEr"), ("GFLOPs of a caption", "CIDEr"), ("ms of a caption", "CIDEr"),
    ]  # fmt: skip
    assert {name: [row.tokens for row in own] for name, own in series_of(rows, *panels_of(rows)[0]).items()} == {
        "merging": [33, 57, 81], "pooling the grid": [30],
    }  # fmt: skip
    report = report_of()
    report["models"][0]["points"] = []
    assert [y for _, y in panels_of(rows_of(report))] == ["GFLOPs of a caption", "ms of a caption"]


def test_changes_and_their_bands() -> None:
    """r=0 in one: 0.8 s, 0.72 to 0.88, a spread of 0.16; times that differ by less say nothing."""
    old, new = report_of(), report_of(0.9)
    (slower,) = [one for one in compare_reports(old, new) if (one.variant, one.figure) == ("r=0", "caption, 8 at once")]
    spread = 0.9 * (1.1 - 0.9)  # the new one's is the larger one
    assert (slower.old, slower.new, slower.band) == pytest.approx((0.8, 0.9, spread))
    assert slower.verdict == "within noise"
    changes = {(one.variant, one.figure): one for one in compare_reports(old, report_of(1.2))}
    assert changes["r=0", "caption, 8 at once"].verdict == "+50.0%"
    assert changes["r=0", "vision, 1 at once"].verdict == "same"
    better = copy.deepcopy(old)
    better["models"][0]["points"][0]["scores"]["CIDEr"] = {"value": 21.9, "interval": [20.0, 24.0]}
    better["models"][0]["connectors"][0]["caption"]["vision"] //= 2
    changes = {(one.variant, one.figure): one for one in compare_reports(old, better)}
    assert (changes["r=0", "CIDEr"].band, changes["r=0", "CIDEr"].verdict) == (2.0, "within noise")
    assert changes["r=0", "FLOPs of a caption"].verdict == f"{-500 / 1891:+.1%}"
    assert compare_reports(old, report_of(name="another")) == []


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_report(report_of(), tmp_path / "curve.svg")
    plot_report(report_of(), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "curve.svg").read_text()
    with pytest.raises(UsageError, match=r"curve.txt is no picture that can be drawn"):
        plot_report(report_of(), tmp_path / "curve.txt")


def test_the_page_says_all_and_trusts_nobody(tmp_path: Path) -> None:
    report = report_of(name=HOSTILE)
    text = render_page(report, changes=compare_reports(report, report_of(1.2, name=HOSTILE)), old=HOSTILE)
    assert "<script" not in text
    assert "http" not in re.sub(r'http-equiv="Content', "", text)
    for words in ("quality breaks at r=8", "r=4 (trained so)", "+50.0%", "2.00 GB", "18.00 (16.00 to 20.00)"):
        assert words in text, words
    changed, _, rest = text.partition("<details")
    assert (changed.count("+50.0%"), changed.count("<td>same"), rest.count("<td>same")) == (8, 0, 28)
    assert re.findall(r'class="label".*?>(.*?)<', text) == 3 * ["8", "4", "0"]
    report["models"][0]["connector_times"] = [
        {"name": "r=0", **dict.fromkeys(("forward", "backward", "both"), times(12, 11, 13))}
    ]
    assert text.count("12.00 s") == 0
    assert render_page(report).count("<td>12.00 s</td>") == 3


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    write_page(
        report_of(), tmp_path / "page.html", changes=compare_reports(report_of(), report_of(1.2)), old="old.json"
    )
    with chromium() as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            show(browser, width, 900, scheme)
            browser.get((tmp_path / "page.html").as_uri())
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert browser.get_log("browser") == []
            requests = browser.execute_script("return performance.getEntriesByType('resource').length")
            assert requests == 0
            dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 31)"
            assert dark == (scheme == "dark")
            boxes = browser.execute_script(
                "return [...document.querySelectorAll('.panels circle')].map(c => c.getBoundingClientRect().toJSON())"
            )
            assert len(boxes) == 12
            assert all(box["left"] >= 0 and box["right"] <= width for box in boxes)
            place = """
                const box = document.querySelector(".scroll"), name = box.querySelector("td");
                const before = name.getBoundingClientRect().left;
                box.scrollLeft = 9999; return [box.scrollLeft > 0, name.getBoundingClientRect().left - before]"""
            assert browser.execute_script(place) == [width == 390, 0]  # whose figures they are stays in sight
