"""`evlgen.caption(path)`: what the command line writes of the same files, in order, with reasons for what has none."""

import subprocess
import sys
from pathlib import Path

import pytest

import evlgen
from evlgen.captioning import CaptionRequest, caption_videos, one_line, read_captions
from evlgen.errors import EvlgenError, UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from tests.modeling.conftest import tiny_model
from tests.video.video_clips import write_clip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_model().save_pretrained(tmp_path / "tiny")  # whose language model is in no file: each load would have another
    monkeypatch.setattr(EVLGenForConditionalGeneration, "from_pretrained", lambda *_, **__: tiny_model())
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, count=4 if name == "a.mp4" else 9)
    (tmp_path / "c.mp4").write_bytes(b"no video")
    one_line._loaded.clear()
    return tmp_path


def test_captions_are_those_of_a_run(folder: Path) -> None:
    model, out = str(folder / "tiny"), folder / "out.jsonl"
    files = [folder / "b.mp4", folder / "a.mp4"]
    caption_videos(CaptionRequest(sources=list(map(str, files)), out=out, model=model, dtype="float32"))
    want = {name: row["caption"] for name, row in read_captions(out).items()}
    with pytest.warns(UserWarning, match=r"c\.mp4: ") as caught:
        found = evlgen.caption([*files, folder / "c.mp4"], model=model, dtype="float32")
    assert found == [want["b.mp4"], want["a.mp4"], None]
    assert caught[0].filename == __file__
    loaded = next(iter(one_line._loaded.values()))["float32"]
    assert evlgen.caption(str(folder / "a.mp4"), model=model, dtype="float32") == want["a.mp4"]
    assert next(iter(one_line._loaded.values()))["float32"] is loaded, "the model is loaded once"


def test_what_has_no_caption_is_one_line(folder: Path) -> None:
    model = str(folder / "tiny")
    with pytest.raises(EvlgenError, match=r"c\.mp4: "):
        evlgen.caption(folder / "c.mp4", model=model)
    with pytest.raises(UsageError, match=r"nothing\.mp4 is no file"):
        evlgen.caption(["nothing.mp4"], model=model)
    with pytest.raises(UsageError, match="is a folder"):
        evlgen.caption(folder, model=model)
    with pytest.raises(UsageError, match="max_length=3 and max_new_tokens=4 contradict"):
        evlgen.caption(folder / "a.mp4", model=model, max_length=3, max_new_tokens=4)


def test_importing_evlgen_imports_nothing_heavy() -> None:
    heavy = "torch transformers numpy pydantic av timm huggingface_hub".split()
    code = f"import sys, evlgen; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
