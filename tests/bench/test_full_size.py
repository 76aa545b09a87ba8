"""The full-size models: published parameter counts, names, and that docs/full-size.md says what the code gives."""

from pathlib import Path

import pytest
import torch
import transformers

from benchmarks import full_size
from evlgen.bench.measured_models import FULL_SIZE, find_model
from evlgen.bench.parameters import PartParameters, memory_bytes, parameters_by_part
from evlgen.bench.variants import Bridge, with_qformer
from evlgen.configuration import EVLGenConfig, LanguageConfig
from evlgen.connector_config import QFormerConfig
from evlgen.errors import UsageError
from evlgen.modeling.public_sizes import PUBLIC_SIZES, with_public_size
from evlgen.modeling.skeleton import build_skeleton
from evlgen.recipes import is_chain, is_table, load_recipe, recipe_names
from evlgen.recipes.schema import RepresentationConfig
from tests.modeling.conftest import tiny_config

DOCUMENT = Path(full_size.__file__).parent.parent / "docs" / "full-size.md"

PUBLISHED = {
    # parameters that the model pages on the hub state, embeddings and head included
    "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984,
    "vicuna-7b": 6_738_415_616,
    "vicuna-13b": 13_015_864_320,
}


@pytest.mark.parametrize("name", PUBLIC_SIZES)
def test_public_sizes(name: str) -> None:
    settings = dict(PUBLIC_SIZES[name])
    with torch.device("meta"):
        shape = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
        model = transformers.AutoModelForCausalLM.from_config(shape)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


def test_public_sizes_are_found_by_repository() -> None:
    def found(source: str | None) -> LanguageConfig:
        return with_public_size(LanguageConfig(source=source, width=4096))

    assert found("hf:facebook/opt-6.7b").architecture == PUBLIC_SIZES["opt-6.7b"]
    assert found("hf:lmsys/vicuna-13b-v1.5@abc").architecture == PUBLIC_SIZES["vicuna-13b"]
    for other in ("hf:facebook/opt-66b", "/models/opt-6.7b", "hf:someone/opt-6.7bb", None):
        assert found(other).architecture is None


def test_every_full_size_recipe_trains_one_of_the_models() -> None:
    known = {one.name: find_model(one.name).config for one in FULL_SIZE}
    whole = [n for n in recipe_names() if not is_chain(n) and not is_table(n) and not n.startswith("mini-")]
    assert set(known) < set(whole)
    for name in whole:
        config = load_recipe(name).model
        assert any(_same_parts(config, other) for other in known.values()), name
        assert config.language.width == with_public_size(config.language).architecture["hidden_size"]
    assert known["pretrain-opt2.7b-55m"].connector.layers == 6


def _same_parts(config: EVLGenConfig, other: EVLGenConfig) -> bool:
    """Alike but for the number of frames, for how frames without a temporal module are averaged or put in a row, and
    for a connector of another kind.
    """
    alike = (config.vision, config.language) == (other.vision, other.language)
    alike = alike and (config.connector == other.connector or config.connector.kind != "tomeformer")
    return alike and (config.temporal.fusion == "temporal") == (other.temporal.fusion == "temporal")


def test_find_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no model 'pretrain-opt2.7' \(did you mean 'pretrain-opt2.7b'\?\)"):
        find_model("pretrain-opt2.7")


def test_qformer_by_hand() -> None:
    """12 layers of self-attention and feed-forward, cross attention to width 1408 in 6 of them, one LayerNorm."""
    with torch.device("meta"):
        qformer = Bridge(with_qformer(find_model("pretrain-opt2.7b").config)).connector
    norm, own, seen = 2 * 768, 768 * 768 + 768, 1408 * 768 + 768
    layer = 4 * own + norm + (768 * 3072 + 3072) + (3072 * 768 + 768) + norm
    cross = 2 * own + 2 * seen + norm
    assert sum(p.numel() for p in qformer.qformer.parameters()) == 12 * layer + 6 * cross + norm == 105_137_664
    assert qformer.query_embeddings.shape == (1, 32, 768)


def test_full_size_connectors_of_other_kinds_by_hand() -> None:
    """A LayerNorm, and linear maps of D x W weights with W biases; perceiver layers of four maps and two more."""

    def linear(wide: int, width: int) -> int:
        return wide * width + width

    norm, layer = 2 * 1408, 2 * 2 * 768 + 4 * linear(768, 768) + 2 * 768 + linear(768, 3072) + linear(3072, 768)
    want = {
        "qformer": norm + 105_137_664 + 32 * 768 + linear(768, 2560),
        "perceiver": norm + linear(1408, 768) + 64 * 768 + 6 * layer + 2 * 768 + linear(768, 2560),
        "linear": norm + linear(1408, 2560),
        "mlp": norm + linear(1408, 2560) + linear(2560, 2560),
    }
    prompts = {"qformer": 32, "perceiver": 64, "linear": 257, "mlp": 257}
    for kind, parameters in want.items():
        image, video = (load_recipe(f"{name}-{kind}").model for name in ("pretrain-opt2.7b", "msrvtt-image"))
        assert image.connector == video.connector
        assert image.soft_prompt_tokens() == prompts[kind]
        with torch.device("meta"):
            bridge = Bridge(image)
            assert bridge(torch.empty(2, 257, 1408)).shape == (2, prompts[kind], 2560)
        assert sum(p.numel() for p in bridge.parameters()) == parameters, kind


@pytest.mark.parametrize("kind", ["perceiver", pytest.param("qformer", marks=pytest.mark.slow)])
def test_a_full_size_model_of_another_kind_is_built(kind: str) -> None:
    parts = {one.part: one for one in parameters_by_part(build_skeleton(load_recipe(f"msrvtt-image-{kind}").model))}
    known = {one.part: one for one in full_size.Model("pretrain-opt2.7b").parts}
    assert parts["vision tower"] == known["vision tower"]
    assert parts["language model"] == known["language model"]
    assert parts["connector"].frozen == 0 < parts["connector"].trained


def test_mini_recipes_of_other_kinds_differ_in_the_connector_alone() -> None:
    base = load_recipe("mini-pretrain")
    for kind in ("qformer", "perceiver", "linear", "mlp"):
        recipe = load_recipe(f"mini-{kind}")
        assert (recipe.model.connector.kind, recipe.model.soft_prompt_tokens()) == (kind, 21)
        alike = recipe.model.model_copy(update={"connector": base.model.connector})
        assert recipe.model_copy(update={"name": base.name, "summary": base.summary, "model": alike}) == base


def test_parts_and_shapes_of_a_tiny_model_by_hand() -> None:
    """2 ViT blocks with temporal modules of width 16; 2 layers of width 24 and 48; 10 tokens."""
    skeleton = build_skeleton(tiny_config(fusion="temporal"))
    parts = {one.part: one for one in parameters_by_part(skeleton)}
    assert parts["temporal modules"] == PartParameters("temporal modules", 2 * (2 * (32 * 16 + 16) + 1), 0)
    assert parts["LayerNorm and projections"].trained == 2 * 32 + (32 * 24 + 24) + (24 * 32 + 32)
    layer = 4 * (24 * 24 + 24) + (24 * 48 + 48) + (48 * 24 + 24) + 2 * 2 * 24
    assert parts["connector"].trained == 10 * 24 + 2 * 24 + 2 * 24 + 2 * layer
    assert parts["vision tower"].trained == parts["language model"].trained == 0
    rows = {row.name: (row.shape, row.count) for row in full_size.trained_shapes(skeleton)}
    assert rows["connector.encoder.layer.N.intermediate.dense.weight"] == ((48, 24), 2)
    assert rows["vision.trunk.blocks.N.temporal.alpha"] == ((1,), 2)
    assert rows["lm_proj.bias"] == ((32,), 1)
    total = sum(one.trained for one in parts.values())
    assert sum(count * torch.Size(shape).numel() for shape, count in rows.values()) == total


def test_blip2s_first_stage_in_closed_form() -> None:
    """Queries alone, the text alone, three pairs and a caption; a backward pass is two forward ones."""
    vision = tiny_config().vision
    own = QFormerConfig(width=24, layers=2, heads=4, intermediate=48, queries=5)
    config = tiny_config().model_copy(update={"connector": own})
    B, D, F, N, Q, T, C, V = 6, 24, 48, vision.tokens, 5, 7, 16, 11

    def layers(length: int, queries: int) -> int:
        each = 4 * 2 * length * D * D + 2 * 2 * length * length * D + 2 * 2 * length * D * F
        return 2 * each + (2 * 2 * queries * D * D + 2 * 2 * N * vision.width * D + 2 * 2 * queries * N * D) * bool(
            queries
        )

    contrast = layers(Q, Q) + layers(T, 0) + 2 * Q * D * C + 2 * D * C + 2 * B * Q * C
    matching = 3 * (layers(Q + T, Q) + 2 * Q * D * 2)
    generation = layers(Q + T, Q) + (T - 1) * (2 * D * D + 2 * D * (V + 1))
    stage = RepresentationConfig(steps=1, max_text_tokens=T, contrast_width=C)
    assert full_size.count_first_stage(config, stage, B, V) == 3 * (contrast + matching + generation)


def test_memory_by_hand() -> None:
    """Frozen 2 bytes; trained 4, its gradient 4, two moments 8."""
    used = memory_bytes([PartParameters("a", 10, 0), PartParameters("b", 0, 100)])
    assert (used.frozen, used.trained, used.gradients, used.optimizer, used.total) == (200, 40, 40, 80, 360)


def test_the_documents_tokens_are_the_codes() -> None:
    assert full_size.tokens(find_model(FULL_SIZE[0].name).config) in DOCUMENT.read_text(encoding="utf-8")


def test_the_documents_parameters_are_the_codes() -> None:
    """They are compared for two models, whose rows say what the others' are made of; the slow test makes all of it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in ("pretrain-opt2.7b", "msrvtt-video"):
        model = full_size.Model(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {full_size.millions(model.trained())} |" in row
        for one in model.parts:
            assert f"| {full_size.millions(one.trained or one.frozen)} |" in row
    assert all(f"`{row.name}`" in text for row in model.shapes)


@pytest.mark.slow
def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == full_size.document()
