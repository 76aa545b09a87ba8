"""WebVTT as a browser's <track> reads it."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from evlgen.exports import export_captions
from tests.video.video_clips import write_clip

from .browser import chromium
from .exported_captions import line, write

PAGE = '<!doctype html><video src="a.mp4"><track default src="a.vtt"></video>'
CUES = """return [...document.querySelector("track").track.cues ?? []]
  .map((cue) => [cue.startTime, cue.endTime, cue.getCueAsHTML().textContent])"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a local server: browsers read no tracks from disk."""
    folder = tmp_path / "videos"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_browser_shows_the_cues(tmp_path: Path, address: str) -> None:
    write_clip(tmp_path / "videos" / "a.mp4")
    lines = [
        line("a.mp4", "1 < 2 & <b>bold</b> --> é", start_seconds=0.0, end_seconds=0.75),
        line("a.mp4", "two\n\nlines", start_seconds=0.75, end_seconds=1.5),
    ]
    export_captions(write(tmp_path / "c.jsonl", *lines), "vtt")
    (tmp_path / "videos" / "page.html").write_text(PAGE)
    with chromium() as browser:
        browser.get(f"{address}/page.html")
        WebDriverWait(browser, 10).until(lambda _: len(browser.execute_script(CUES)) == 2)
        assert browser.execute_script(CUES) == [[0, 0.75, "1 < 2 & <b>bold</b> --> é"], [0.75, 1.5, "two\nlines"]]
