"""The page of captions: what stands in it, and what a browser makes of it."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from evlgen.exports import ExportOptions, export_captions
from tests.video.video_clips import read_barcode, write_clip

from .browser import chromium, show
from .exported_captions import line, write

HOSTILE = """</script><img src=x onerror="window.hacked = 1"><b>'bold'</b> &\u2028"quoted" \u202e {{ 7 * 7 }} é 漢"""
SEEN = HOSTILE.replace("\u2028", " ").replace("\u202e", "\ufffd")


class Reader(HTMLParser):
    """Scripts, and the policy, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.policy = ""
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("script", "style") and data.strip():
            (self.scripts if self.tags[-1] == "script" else self.styles).append(data)


def items(page: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Reader(page.read_text(encoding="utf-8")).scripts[0])
    return found


def test_what_stands_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "a #1.mp4", count=11)
    captions = write(
        tmp_path / "c <b>.jsonl",
        line("a #1.mp4", HOSTILE, tags=[{"name": "<i>", "probability": 0.5}], confidence=0.25),
        line("bad.mp4", error={"kind": "timeout", "message": HOSTILE}),
        line("b.mp4", "first", start_seconds=0.0, end_seconds=1.0),
        line("b.mp4", "second", start_seconds=1.0, end_seconds=2.5, warnings=["still: all alike"]),
    )
    report = export_captions(captions, "html")
    assert (report.captions, report.complete) == (3, True)
    text = (tmp_path / "c <b>.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert "img" not in reader.tags
    assert "b" not in reader.tags
    assert len(reader.scripts) == 2
    for kind, [content] in (("script", reader.scripts[1:]), ("style", reader.styles)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in reader.policy
    assert not re.search(r"https?:|//\w", text.replace("// Draws", ""))
    first, bad, parts = items(tmp_path / "c <b>.html")
    assert (first["caption"], first["link"], first["score"]) == (SEEN, "videos/a%20%231.mp4", -1.5)
    assert (first["tags"], first["confidence"]) == ([["<i>", 0.5]], 0.25)
    assert (bad["error"], "caption" in bad) == (["timeout", SEEN], False)
    assert parts["parts"] == [[0.0, 1.0, "first", -1.5], [1.0, 2.5, "second", -1.5]]
    assert (parts["caption"], parts["warnings"]) == ("first. second.", ["still: all alike"])
    picture = Image.open(io.BytesIO(base64.b64decode(first["poster"].partition(",")[2])))
    import numpy as np

    assert read_barcode(np.asarray(picture)) == 5  # the frame in the middle


def test_pictures_beside_the_page_are_kept(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "a.mp4", count=5)
    captions = write(tmp_path / "c.jsonl", line("a.mp4", "x"), line("gone.mp4", "y"))
    options = ExportOptions(posters="beside")
    seen: list[tuple[int, int]] = []
    export_captions(captions, "html", options=options, progress=lambda _, done, total, unit: seen.append((done, total)))
    [picture] = (tmp_path / "c-posters").iterdir()
    assert [one.get("poster") for one in items(tmp_path / "c.html")] == [f"c-posters/{picture.name}", None]
    assert seen == [(1, 1)]
    seen.clear()
    export_captions(captions, "html", options=options, progress=lambda _, done, total, unit: seen.append((done, total)))
    assert seen == []
    write(captions, line("a.mp4", "x", fingerprint="another"))
    export_captions(captions, "html", options=options)
    assert [path.name for path in (tmp_path / "c-posters").iterdir()] != [picture.name]
    export_captions(captions, "html", options=ExportOptions(posters="none"))
    assert "poster" not in items(tmp_path / "c.html")[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 videos, one hostile, one with parts, one that failed; pictures of two beside the page."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "videos").mkdir()
    for name in ("video0.mp4", "parts.mp4"):
        write_clip(folder / "videos" / name, count=50)
    lines = [line(f"video{n}.mp4", f"caption number {n}", log_probability=-n / 100) for n in range(4997)]
    lines[3]["caption"] = HOSTILE
    lines.append(line("bad.mp4", error={"kind": "timeout", "message": HOSTILE}))
    lines += [line("parts.mp4", f"part {n}", start_seconds=n * 0.5, end_seconds=n * 0.5 + 0.5) for n in range(4)]
    lines.append(line("mine.mp4", "words of a person", edited=True, log_probability=None))
    export_captions(write(folder / "c.jsonl", *lines), "html", options=ExportOptions(posters="beside"))
    return folder / "c.html"


def texts(browser: Any) -> list[str]:
    return [str(one.text) for one in browser.find_elements(By.CSS_SELECTOR, ".card b")]


def selected(browser: Any) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, '.card[aria-selected="true"] b').text)


def press(browser: Any, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def test_thousands_of_videos_in_a_browser(browser: Any, many: Path) -> None:
    show(browser, 1280, 900)
    browser.get(many.as_uri())
    assert 8 < len(browser.find_elements(By.CSS_SELECTOR, ".card")) < 60  # only those that can be seen, and a few ahead
    assert texts(browser)[:3] == [f"caption number {n}" for n in range(3)]
    assert texts(browser)[3] == SEEN
    assert browser.execute_script("return window.hacked === undefined && !document.querySelector('img[src=x]')")
    press(browser, Keys.END)
    assert selected(browser) == "words of a person"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".card")) < 60
    press(browser, Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert selected(browser) == "caption number 2"
    press(browser, "/")
    press(browser, *"number 499")
    assert browser.find_element(By.ID, "count").text == "12 of 5,000"  # 499 to 4499, and 4990 to 4996
    browser.find_element(By.CSS_SELECTOR, "#sort [value=unsure]").click()
    assert texts(browser)[0] == "caption number 4996"
    browser.find_element(By.CSS_SELECTOR, "#sort [value=sure]").click()
    assert texts(browser)[0] == "caption number 499"
    browser.find_element(By.ID, "find").send_keys(Keys.ESCAPE)
    browser.find_element(By.CSS_SELECTOR, "#show [value=edited]").click()
    assert texts(browser) == ["words of a person"]
    browser.find_element(By.CSS_SELECTOR, "#show [value=failed]").click()
    assert texts(browser) == [f"timeout: {SEEN}"]
    list_ = browser.find_element(By.ID, "list")
    list_.send_keys(Keys.ENTER)
    detail = browser.find_element(By.ID, "detail")
    assert f"timeout: {SEEN}" in detail.text
    assert [one.is_enabled() for one in detail.find_elements(By.CSS_SELECTOR, ".bar button")] == [False, False, True]
    press(browser, Keys.ESCAPE)
    assert not detail.is_displayed()
    assert browser.execute_script("return window.hacked === undefined")


def test_parts_pictures_and_nothing_from_the_network(browser: Any, many: Path) -> None:
    show(browser, 1280, 900)
    browser.get(many.as_uri())
    browser.find_element(By.ID, "find").send_keys("part")
    assert texts(browser) == ["part 0. part 1. part 2. part 3."]
    wait = WebDriverWait(browser, 10)
    wait.until(lambda _: browser.execute_script("return document.querySelector('.card img').naturalWidth") == 128)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".card .strip i")) == 4
    press(browser, Keys.ENTER, Keys.ENTER)
    buttons = browser.find_elements(By.CSS_SELECTOR, ".timeline button")
    assert [one.get_attribute("title") for one in buttons][:2] == ["0:00.0 part 0", "0:00.5 part 1"]
    buttons[2].click()  # plays the video from there
    wait.until(lambda _: browser.execute_script("return document.querySelector('video').currentTime") >= 1.0)
    names = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith(("file:", "data:")) for name in names)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize(("scheme", "back"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 31)")])
def test_a_telephone_by_day_and_night(browser: Any, many: Path, scheme: str, back: str) -> None:
    show(browser, 390, 844, scheme)
    browser.get(many.as_uri())
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == back
    width = "return document.documentElement.scrollWidth"
    assert browser.execute_script(width) <= 390
    first, second = browser.find_elements(By.CSS_SELECTOR, ".card")[:2]
    assert second.rect["y"] >= first.rect["y"] + first.rect["height"]  # one below the other
    first.click()
    detail = browser.find_element(By.ID, "detail")
    assert detail.is_displayed()
    assert detail.rect["width"] <= 390
    assert detail.find_element(By.CSS_SELECTOR, ".big").rect["width"] > 300
    assert browser.execute_script(width) <= 390
