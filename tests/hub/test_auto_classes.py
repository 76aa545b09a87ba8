"""A folder of ours in transformers' own Auto classes and pipeline, after `import evlgen` and with trust_remote_code."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import evlgen  # noqa: F401 - what makes the Auto classes know the model
from evlgen.errors import UsageError
from evlgen.hub.publishing import plan_push, push
from evlgen.hub.stub import add_stub
from evlgen.modeling import EVLGenForConditionalGeneration
from tests.hub.fake_hub import FakeHub

PICTURES = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (40, 60, 3), dtype=np.uint8)) for n in range(3)]
PROMPTS = ["a", "the cat", ""]


@pytest.fixture(scope="module")
def opened(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    return model, transformers.AutoProcessor.from_pretrained(folder)


def test_captions_are_those_of_our_own_class(folder: Path, opened: tuple[Any, Any]) -> None:
    model, processor = opened
    own = EVLGenForConditionalGeneration.from_pretrained(folder)
    want = own.generate(own.processor(PICTURES), prompt=PROMPTS, num_beams=2, max_new_tokens=6, num_captions=2)
    inputs = processor(images=PICTURES, text=PROMPTS, return_tensors="pt")
    found = model.generate(**inputs, num_beams=2, max_length=6, num_return_sequences=2, return_dict_in_generate=True)
    assert torch.equal(found.sequences, want.sequences)
    torch.testing.assert_close(found.sequences_scores, want.log_probabilities)
    assert processor.batch_decode(found.sequences, skip_special_tokens=True) == want.texts
    usual = own.generate(own.processor(PICTURES[:1]))  # what nobody says is as in evlgen
    assert torch.equal(model.generate(**processor(PICTURES[0])), usual.sequences)
    settings = transformers.GenerationConfig(num_beams=1, max_new_tokens=4)
    greedy = own.generate(own.processor(PICTURES[:1]), num_beams=1, max_new_tokens=4)
    assert torch.equal(model.generate(**processor(PICTURES[0]), generation_config=settings), greedy.sequences)


def test_a_pipeline_captions(folder: Path, opened: tuple[Any, Any]) -> None:
    pipe = transformers.pipeline("image-text-to-text", model=str(folder), device="cpu")
    own = EVLGenForConditionalGeneration.from_pretrained(folder)
    want = own.generate(own.processor(PICTURES[:1]), prompt="the", max_new_tokens=6).texts[0]
    (found,) = pipe(images=PICTURES[0], text="the", max_new_tokens=6, return_full_text=False)
    assert found["generated_text"] == want
    asked = {"role": "user", "content": [{"type": "image", "image": PICTURES[0]}, {"type": "text", "text": "What?"}]}
    begun = {"role": "assistant", "content": [{"type": "text", "text": "the"}]}
    (found,) = pipe(text=[asked, begun], max_new_tokens=6, return_full_text=False)
    assert found["generated_text"] == want
    with pytest.raises(UsageError, match="a chat without a picture or video"):
        opened[1].apply_chat_template([{"role": "user", "content": "hello"}])


def test_saved_again_it_is_the_same(folder: Path, opened: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = opened
    with pytest.raises(UsageError, match="pushes nothing"):
        model.save_pretrained(tmp_path, push_to_hub=True)
    assert list(tmp_path.iterdir()) == []
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path)
    inputs = processor(PICTURES[0])
    assert torch.equal(again.generate(**inputs), model.generate(**inputs))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"max_length": 3, "max_new_tokens": 4}, "contradict each other"), ({"prefix_allowed": 1}, "no option")],
)
def test_what_contradicts_itself_is_one_line(opened: tuple[Any, Any], options: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        opened[0].generate(**opened[1](PICTURES[0]), **options)


def test_a_model_over_several_devices_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="device_map='balanced' spreads a model over devices"):
        transformers.AutoModelForImageTextToText.from_pretrained(folder, device_map="balanced")


PROGRAM = """
import sys
{first}
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], **{options})
processor = AutoProcessor.from_pretrained(sys.argv[1], **{options})
import numpy
print(model.generate(**processor(numpy.zeros((8, 8, 3), numpy.uint8)), num_beams=1, max_new_tokens=4).tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "options"),
    [
        ("import evlgen", {}),
        ("import transformers.modeling_utils, evlgen", {}),  # transformers in the middle of things
        ("", {"trust_remote_code": True}),
    ],
    ids=["import-evlgen", "evlgen-later", "remote-code"],
)
def test_in_a_process_of_its_own(
    folder: Path, first: str, options: dict[str, bool], tmp_path: Path, opened: tuple[Any, Any], monkeypatch: Any
) -> None:
    add_stub(folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = PROGRAM.format(first=first, options=options)
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    want = opened[0].generate(**opened[1](np.zeros((8, 8, 3), np.uint8)), num_beams=1, max_new_tokens=4)
    assert done.stdout.strip() == str(want.tolist())


PIPELINE = """
import sys
from PIL import Image
from transformers import pipeline
captioner = pipeline("image-text-to-text", model=sys.argv[1], trust_remote_code=True)
found = captioner(images=Image.new("RGB", (8, 8)), text="", max_new_tokens=4, num_beams=1, return_full_text=False)
print(repr(found[0]["generated_text"]))
"""


@pytest.mark.slow
def test_from_the_hub_in_a_process_of_its_own(
    folder: Path, hub: FakeHub, tmp_path: Path, opened: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    push(plan_push(folder, "hf:me/tiny"))
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)
    ids = opened[0].generate(**opened[1](np.zeros((8, 8, 3), np.uint8)), num_beams=1, max_new_tokens=4)
    want = [str(ids.tolist()), repr(opened[1].batch_decode(ids)[0])]
    codes = [PROGRAM.format(first="", options={"trust_remote_code": True}), PIPELINE]
    for offline in ("0", "1"):  # fetched, and then from the cache
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        asked = len(hub.requests)
        for code, expected in zip(codes, want, strict=True):
            done = subprocess.run([sys.executable, "-c", code, "me/tiny"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == expected
        assert (len(hub.requests) == asked) == (offline == "1")
