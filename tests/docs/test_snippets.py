"""The Python in README and guide is run as it stands, with a tiny model under the names that it uses."""

import re
import warnings
from pathlib import Path

import pytest

from evlgen.modeling import EVLGenForConditionalGeneration
from tests.docs.collecting import PAGES, blocks
from tests.modeling.conftest import tiny_model
from tests.video.video_clips import write_clip


def snippets() -> list[tuple[str, str]]:
    """Where it stands, and the code: whole blocks of Python, and what a shell hands to it."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            if heredoc := re.search(r"<<'PY'\n(.*?)\nPY", block.text, re.DOTALL):
                found.append((block.where, heredoc[1]))
            elif re.match(r"(from|import) \w", block.text):
                found.append((block.where, block.text))
    return found


def test_there_are_as_many_as_pages_have_imports() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    imports = len(re.findall(r"^(?:    )?(?:from evlgen\S* import|import evlgen)", text, re.MULTILINE))
    assert (
        sum(len(re.findall(r"^(?:from evlgen\S* import|import evlgen)", code, re.M)) for _, code in snippets())
        == imports
    )


@pytest.mark.parametrize(("where", "code"), snippets(), ids=[where for where, _ in snippets()])
def test_a_snippet_runs(
    where: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    for run in ("mini-pretrain/best", "mini"):
        tiny_model().save_pretrained(tmp_path / "runs" / run)
    monkeypatch.setattr(EVLGenForConditionalGeneration, "from_pretrained", lambda *_, **__: tiny_model())
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        names: dict[str, object] = {"__name__": "__main__"}
        exec(compile(code, where, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    if where.startswith("README"):  # a caption, and why there is none; in the order in which they are done
        assert sorted(line.split()[0] for line in printed) == ["a.mp4", "b.mp4"]
    elif where.startswith("docs/models"):
        assert [type(caption) for caption in names["captions"]] == [str]  # type: ignore[attr-defined]
    else:
        assert (tmp_path / "models/evlgen/assets/evlgen-mini/model.safetensors").is_file()
