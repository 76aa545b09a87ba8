"""The page in a browser: what lights up, keys, sizes, colours; nothing is fetched, and no script runs but its own."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from evlgen.visualize import Panel, trace_clip
from evlgen.visualize.merging_page import render_page, write_page
from evlgen.visualize.word_attention import Word
from tests.exports.browser import chromium, show

from .conftest import SHORT, model_of

HOSTILE = "</script><img src=x onerror=hacked=1>"


def draw(folder: Path) -> tuple[Path, list[Panel]]:
    """A page of two models: frames share groups in one, in the other each has its own; the second says bad things."""
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 3, 3), np.uint8).repeat(32, 1).repeat(48, 2)
    panels = []
    for kind in ("cnn-temporal", "vit-concat"):
        panels.append(
            Panel(trace_clip(model_of(kind), x, name=kind, decoding=SHORT), x, (0.0, 0.5, 1.0), ("a <warning>",))
        )
    words = [Word(HOSTILE, tuple(np.linspace(0, 0.04, panels[1].trace.soft_prompts).tolist())), Word("b", (0.01,) * 18)]
    panels[1] = dataclasses.replace(panels[1], trace=dataclasses.replace(panels[1].trace, words=words))
    write_page(panels, folder / "page.html", f"{HOSTILE}.mp4")
    return folder / "page.html", panels


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Panel]]:
    return draw(tmp_path_factory.mktemp("merging"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
    show(browser, width, 900, scheme)
    browser.get(path.as_uri())
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script("return document.body.dataset.ready") == "yes")


def pixel(browser: Any, panel: int, frame: int, row: int, column: int) -> list[int]:
    """The colour in the middle of a patch of a 3 x 3 grid."""
    script = """
        const section = document.querySelectorAll("section")[arguments[0]];
        const canvas = section.querySelectorAll(".frames canvas")[arguments[1]];
        const x = canvas.width * (arguments[3] + 0.5) / 3, y = canvas.height * (arguments[2] + 0.5) / 3;
        return Array.from(canvas.getContext("2d").getImageData(x, y, 1, 1).data.slice(0, 3));
    """
    found: list[int] = browser.execute_script(script, panel, frame, row, column)
    return found


def section(browser: Any, panel: int) -> Any:
    return browser.find_elements(By.TAG_NAME, "section")[panel]


def bright(browser: Any, panel: int, plain: dict[tuple[int, int], list[int]]) -> set[tuple[int, int]]:
    """(frame, patch) that kept their colour, which `plain` holds."""
    return {at for at, colour in plain.items() if pixel(browser, panel, at[0], *divmod(at[1], 3)) == colour}


def test_only_its_own_script_may_run(page: tuple[Path, list[Panel]]) -> None:
    text = render_page(page[1], f"{HOSTILE}.mp4")
    assert HOSTILE not in text
    assert "src=" not in re.sub(r"&lt;.*?&gt;|<script.*?</script>", "", text, flags=re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert not re.search(r"https?:|href=", text)


def test_pointing_at_a_patch_lights_its_soft_prompt(browser: Any, page: tuple[Path, list[Panel]]) -> None:
    path, panels = page
    opened(browser, path)
    for number, panel in enumerate(panels):
        places = [(frame, patch) for frame in range(3) for patch in range(9)]
        plain = {(f, p): pixel(browser, number, f, *divmod(p, 3)) for f, p in places}
        canvas = section(browser, number).find_elements(By.CSS_SELECTOR, ".frames canvas")[1]
        width, height = canvas.rect["width"], canvas.rect["height"]
        ActionChains(browser).move_to_element_with_offset(canvas, round(width / 3), round(-height / 3)).perform()
        trace = panel.trace
        prompts = trace.prompts()[:, trace.prefix_tokens :]
        lit = prompts[1, 2]  # the upper right patch of the second frame
        assert bright(browser, number, plain) == {(f, p) for f, p in places if prompts[f, p] == lit}
        said = section(browser, number).find_element(By.CLASS_NAME, "said").text
        assert said.startswith(f"Soft prompt {lit + 1} of {trace.soft_prompts}: ")
        on = section(browser, number).find_elements(By.CSS_SELECTOR, ".chips .on")
        assert [one.get_attribute("aria-label") for one in on] == [f"Soft prompt {lit + 1}"]


def test_layers_by_keys(browser: Any, page: tuple[Path, list[Panel]]) -> None:
    path, panels = page
    opened(browser, path)
    slider = browser.find_element(By.ID, "layer")
    assert browser.find_element(By.ID, "layer-name").text == "2 of 2"
    counts = []
    for key in (Keys.ARROW_LEFT, Keys.HOME, Keys.END):
        slider.send_keys(key)
        counts.append([int(one.text.split()[0]) for one in browser.find_elements(By.CLASS_NAME, "count")])
    tokens = [panel.trace.tokens for panel in panels]
    assert counts == [[one[layer] for one in tokens] for layer in (1, 0, 2)]
    browser.find_element(By.CSS_SELECTOR, "#view [value=mosaic]").click()
    slider.send_keys(Keys.HOME)
    x = panels[1].pictures[2]  # unmerged: each patch of a frame that is its own has its own colour
    assert np.allclose(pixel(browser, 1, 2, 1, 2), x[x.shape[0] // 2, -5], atol=3)


def test_words_and_soft_prompts_by_keys(browser: Any, page: tuple[Path, list[Panel]]) -> None:
    path, panels = page
    opened(browser, path)
    own = section(browser, 1)
    assert own.find_element(By.CSS_SELECTOR, ".words button").text == HOSTILE
    browser.execute_script("arguments[0].focus()", own.find_element(By.CSS_SELECTOR, ".words button"))
    said = own.find_element(By.CLASS_NAME, "said")
    total = sum(panels[1].trace.words[0].attention)
    assert (
        said.text
        == f"“{HOSTILE}” gives {100 * total:.1f}% of its attention to soft prompts, most of it to number 18 (4.0%)."
    )
    assert own.find_element(By.CLASS_NAME, "scale").text.endswith(
        "soft prompts 1 to 18. Full colour is 4.0% of a word's attention, none 0."
    )
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert said.text.startswith("“b” gives 18.0% of its attention")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert said.text.startswith("Soft prompt 2 of 18: ")  # held
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert said.text == ""
    assert browser.execute_script("return typeof hacked === 'undefined' && !document.querySelector('img')")


@pytest.mark.parametrize(("width", "across"), [(1280, 2), (390, 1)])
@pytest.mark.parametrize(("scheme", "back"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 31)")])
def test_wide_and_narrow_by_day_and_night(
    browser: Any, page: tuple[Path, list[Panel]], width: int, across: int, scheme: str, back: str
) -> None:
    opened(browser, page[0], width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == back
    first, second = browser.find_elements(By.TAG_NAME, "section")
    assert (second.rect["x"] > first.rect["x"]) == (across == 2)
    names = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith("data:") for name in names)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
