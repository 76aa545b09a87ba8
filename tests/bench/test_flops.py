"""FLOPs: the closed formulas against torch's counter, the counter's parts against whole real models, both by hand."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from evlgen.bench.flops import (
    ConnectorReport,
    Work,
    count,
    count_connector,
    count_language_caption,
    count_language_step,
    count_model,
)
from evlgen.bench.parameters import parameters_by_part
from evlgen.bench.variants import Bridge, reducing, variants
from evlgen.configuration import CrossAttentionConfig, EVLGenConfig, VisionConfig
from evlgen.modeling.skeleton import build_skeleton
from evlgen.recipes import load_recipe
from tests.bench.closed_formulas import (
    LanguageSizes,
    connector_flops,
    language_caption_flops,
    language_step_flops,
)
from tests.bench.tower_formulas import tower_flops
from tests.modeling.conftest import (
    KINDS,
    TINY_CNN,
    TINY_LLAMA,
    TINY_OPT,
    TINY_VIT,
    tiny_config,
    tiny_model,
    with_connector,
    with_lora,
)

PLAIN_CNN = VisionConfig(name="tf_efficientnet_lite0", image_size=64, width=1280, tokens=4)
TINY_EVA = VisionConfig(
    name="eva_giant_patch14_clip_224",
    arguments={"img_size": 28, "embed_dim": 32, "depth": 3, "num_heads": 4},
    image_size=28,
    width=32,
    tokens=5,
)


@pytest.mark.parametrize(
    ("vision", "fusion", "llm"),
    [
        (TINY_VIT, "mean", TINY_LLAMA),
        pytest.param(TINY_VIT, "temporal", TINY_OPT, marks=pytest.mark.slow),
        pytest.param(TINY_VIT, "concat", TINY_OPT, marks=pytest.mark.slow),
        (TINY_EVA, "temporal", TINY_LLAMA),
        pytest.param(PLAIN_CNN, "mean-prompts", TINY_LLAMA, marks=pytest.mark.slow),
        (PLAIN_CNN, "temporal", TINY_OPT),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", None) or value["model_type"],
)
def test_counter_and_formula_agree(vision: VisionConfig, fusion: str, llm: dict[str, object]) -> None:
    config = tiny_config(vision, fusion, llm, layers=3)
    skeleton, frames = build_skeleton(config), config.temporal.frames
    passes = frames if fusion in ("concat", "mean-prompts") else 1
    around, text = len(skeleton.prompt_before) + len(skeleton.prompt_after), config.language.max_text_tokens
    sizes = LanguageSizes.of(skeleton.language)
    towers = [tower_flops(skeleton.vision, config.temporal, training=training) for training in (True, False)]
    r = {10: "2", 5: "[2,1,0]", 4: "[1,1,0]"}[vision.tokens]  # as many as so few tokens can merge
    compared = variants(config, (0, r))
    assert list(compared) == ["r=0", f"r={r}", "q-former"]
    few_layers = with_connector(config, **KINDS["qformer"])  # three, which count as twelve do
    compared["q-former"] = replace(compared["q-former"], config=few_layers)
    for one in count_model(skeleton, compared, 4, lambda done, total: None):
        changed = compared[one.name].config
        step, caption = (passes * connector_flops(changed, training=training) for training in (True, False))
        prefix = one.soft_prompts + around
        assert one.connector == pytest.approx(caption, rel=0.01)
        approx(one.step, Work(towers[0], step, language_step_flops(sizes, prefix, text)))
        approx(one.caption, Work(towers[1], caption, language_caption_flops(sizes, prefix, 4)))


@pytest.mark.parametrize("fusion", ["mean", "concat"])
@pytest.mark.parametrize("kind", KINDS)
def test_connectors_of_other_kinds_stand_alone(kind: str, fusion: str) -> None:
    config = with_connector(tiny_config(fusion=fusion), **KINDS[kind])
    skeleton, passes = build_skeleton(config), 3 if fusion == "concat" else 1
    (one,) = count_model(skeleton, variants(config, (0, 16)), 4, lambda done, total: None)
    assert (one.name, one.tokens_per_layer, one.soft_prompts) == (kind, (6,), 6 * passes)
    assert (
        one.caption.connector
        == one.connector
        == pytest.approx(passes * connector_flops(config, training=False), rel=0.01)
    )
    assert one.step.connector == pytest.approx(passes * connector_flops(config, training=True), rel=0.01)
    assert one.parameters == sum(
        p.numel() for n, p in skeleton.named_parameters() if n.startswith(("ln_", "vl_", "connector.", "lm_"))
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [f"pretrain-opt2.7b-{kind}" for kind in KINDS])
def test_full_size_connectors_of_other_kinds(recipe: str) -> None:
    config = load_recipe(recipe).model
    with FakeTensorMode():
        bridge = Bridge(config)
        for training in (True, False):
            counted = count_connector(bridge, 257, 1408, passes=1, training=training)
            assert counted == pytest.approx(connector_flops(config, training=training), rel=0.01)


def count_merging(config: EVLGenConfig, new_tokens: int) -> ConnectorReport:
    """With r = 2, and no Q-Former beside it."""
    merging = {"r=2": variants(config, (2,))["r=2"]}
    (found,) = count_model(build_skeleton(config), merging, new_tokens, lambda done, total: None)
    return found


def approx(counted: Work, formula: Work) -> None:
    assert vars(counted) == pytest.approx(vars(formula), rel=0.01)


@pytest.mark.parametrize(("llm", "targets"), [(TINY_LLAMA, ["q_proj", "down_proj"]), (TINY_OPT, ["v_proj", "fc1"])])
def test_lora_is_counted_and_in_the_formula(llm: dict[str, object], targets: list[str]) -> None:
    config = with_lora(tiny_config(llm=llm), rank=3, targets=targets)
    plain = count_language_step(build_skeleton(tiny_config(llm=llm)).language, 3, 4)
    language = build_skeleton(config).language
    sizes = LanguageSizes.of(language)
    assert sizes.trained == 2 * 3 * (2 * 32 + 32 + 48)  # two layers, rank 3, one square map and one of 32 and 48
    added = 3 * 2 * (3 + 4 - 1) * sizes.trained
    assert language_step_flops(sizes, 3, 4) == count_language_step(language, 3, 4) == plain + added
    assert language_caption_flops(sizes, 3, 4) == count_language_caption(language, 3, 4)
    parts = {one.part: one for one in parameters_by_part(build_skeleton(config))}
    assert (parts["LoRA"].trained, parts["LoRA"].frozen, parts["language model"].trained) == (sizes.trained, 0, 0)


@pytest.mark.parametrize("llm", [TINY_LLAMA, TINY_OPT])
def test_layers_that_look_at_soft_prompts_are_counted(llm: dict[str, object]) -> None:
    """Soft prompts take no places then; each look maps queries and results, keys and values are mapped once."""
    config, queries, text, width = tiny_config(llm=llm), 6, 5, 32
    looking = config.language.model_copy(update={"cross_attention": CrossAttentionConfig(every=1, heads=4)})
    language = build_skeleton(config.model_copy(update={"language": looking})).language
    plain = build_skeleton(config).language
    around = sum(plain._texts_around)
    keys_values = 2 * queries * width * 2 * 2 * width  # two layers

    def looks(tokens: int) -> int:
        return 2 * (4 * tokens * width * width + 4 * tokens * queries * width)

    step = count_language_step(language, queries + around, text)
    assert step == count_language_step(plain, around, text) + 3 * (looks(around + text - 1) + keys_values)
    for new in (1, 2, 3, 7):
        caption = count_language_caption(language, queries + around, new)
        assert caption == count_language_caption(plain, around, new) + looks(around + new - 1) + keys_values
    parts = {
        one.part: one for one in parameters_by_part(build_skeleton(config.model_copy(update={"language": looking})))
    }
    assert parts["cross-attention"].trained == 2 * (2 * width * width + width) + 4 * width * width


@pytest.mark.slow
def test_a_tower_without_a_formula_is_counted() -> None:
    """Squeeze-and-excitation convolves averages: the formula of plain EfficientNets would be wrong."""
    config = tiny_config(TINY_CNN)
    assert tower_flops(build_skeleton(config).vision, config.temporal, training=False) is None
    merging = count_merging(config, new_tokens=2)
    assert merging.step.vision > 0


@pytest.mark.parametrize(
    ("fusion", "llm"),
    [
        pytest.param("mean", TINY_LLAMA, id="mean-llama", marks=pytest.mark.slow),
        pytest.param("temporal", TINY_LLAMA, id="temporal-llama"),
        pytest.param("concat", TINY_LLAMA, id="concat-llama", marks=pytest.mark.slow),
        pytest.param("mean", TINY_OPT, id="mean-opt", marks=pytest.mark.slow),
        pytest.param("temporal", TINY_OPT, id="temporal-opt", marks=pytest.mark.slow),
        pytest.param("concat", TINY_OPT, id="concat-opt"),
    ],
)
def test_parts_add_up_to_a_step_and_a_caption_of_the_real_model(fusion: str, llm: dict[str, object]) -> None:
    """Counted on real tensors, through the whole model's own forward, backward and generate."""
    config = tiny_config(TINY_VIT, fusion, llm)
    config = config.model_copy(update={"language": config.language.model_copy(update={"max_text_tokens": 6})})
    model = tiny_model(config)
    merging = count_merging(config, new_tokens=5)
    pixels = torch.randn(1, 3, 3, 48, 48)
    whole = count(lambda: model([[[5, 6, 7, 8, 9, 10]]], pixel_values=pixels).loss.backward())
    assert merging.step.total == pytest.approx(whole, rel=0.01)
    caption = count(lambda: model.generate(pixels, num_beams=1, min_new_tokens=5, max_new_tokens=5))
    assert merging.caption.total == pytest.approx(caption, rel=0.01)


def test_connector_by_hand() -> None:
    """One layer, 10 tokens, r = 2: projection, q k v and output, two attention products, 8 tokens of feed-forward."""
    config = tiny_config(layers=1)
    attention = 4 * 2 * 10 * 24 * 24 + 2 * 2 * 10 * 10 * 24
    feed_forward = 2 * 2 * 8 * 24 * 48
    trained = 2 * 10 * 32 * 24 + attention + feed_forward + 2 * 8 * 24 * 32
    match = 2 * 5 * 5 * 6
    assert connector_flops(config, training=False) == trained + match
    assert connector_flops(config, training=True) == 3 * trained + match


def test_language_model_by_hand() -> None:
    """OPT of two layers of 4 32^2 + 2 32 48 weights, 3 soft prompts, a caption of 2 tokens: 4 tokens, 2 predicted."""
    language = build_skeleton(tiny_config(llm=TINY_OPT)).language
    weights = 2 * (4 * 32 * 32 + 2 * 32 * 48)
    head = 2 * 2 * 32 * 256
    step = 2 * (2 * 4 * weights) + 3 * (2 * 2 * 2 * 4 * 4 * 32) + 2 * head
    sizes = LanguageSizes.of(language)
    assert language_step_flops(sizes, 3, 2) == count_language_step(language, 3, 2) == step
    prefix = 2 * 3 * weights + 2 * 2 * 2 * 3 * 3 * 32
    one_more = 2 * weights + 2 * 2 * 2 * 4 * 32
    caption = prefix + one_more + head
    assert language_caption_flops(sizes, 3, 2) == count_language_caption(language, 3, 2) == caption


def test_layers_have_the_flops_that_are_published_for_bert_base() -> None:
    """22.5 GFLOPs at 128 tokens (arXiv 1909.10351, table 1): twelve layers, no merging."""
    base = EVLGenConfig.model_validate(
        {
            "vision": {"name": "x", "image_size": 224, "width": 768, "tokens": 128},
            "connector": {"r": 0},
            "language": {"width": 768},
        }
    )
    projections = 2 * 128 * (768 * 768 + 768 * 768)
    assert (connector_flops(base, training=False) - projections) / 1e9 == pytest.approx(22.5, rel=0.02)


def test_connector_is_the_models_own_path() -> None:
    """The same tensors under the same names give the model's soft prompts, at the model's r and at another."""
    model = tiny_model()
    connector = Bridge(model.config).eval()
    names = connector.state_dict().keys()
    connector.load_state_dict({name: value for name, value in model.state_dict().items() if name in names})
    features = torch.randn(2, 3, 10, 32)
    torch.testing.assert_close(connector(features.mean(dim=1)), model.soft_prompts(features))
    other = variants(model.config, (0,))["r=0"]
    with reducing(connector.connector, other):
        assert connector(features.mean(dim=1)).shape[1] == 10
    assert connector(features.mean(dim=1)).shape[1] == 6
    assert other.soft_prompts == 10
