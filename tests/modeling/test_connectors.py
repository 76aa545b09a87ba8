"""Connectors of every kind: against transformers and written-out definitions, and through the whole model."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, Blip2QFormerConfig, Blip2QFormerModel

from evlgen.captioners.evlgen_captioner import resolve_r
from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import MlpConfig, PerceiverConfig, QFormerConfig
from evlgen.conversion import to_authors
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.connectors import Perceiver, Pooling, QFormer, start_from_bert
from evlgen.recipes.schema import OptimizerConfig
from evlgen.training.optimizer import parameter_groups
from evlgen.visualize import VisualizeRequest, visualize
from tests.modeling.conftest import KINDS, tiny_config, tiny_model, with_connector

kinds = pytest.mark.parametrize("kind", KINDS)


def of_kind(kind: str, fusion: str = "mean") -> EVLGenForConditionalGeneration:
    return tiny_model(with_connector(tiny_config(fusion=fusion), **KINDS[kind]))


def test_qformer_is_transformers_own() -> None:
    sizes = Blip2QFormerConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, encoder_hidden_size=32,
        cross_attention_frequency=2,
    )  # fmt: skip
    reference = Blip2QFormerModel(sizes).eval()
    model = of_kind("qformer")
    connector = model.connector
    reference.load_state_dict(connector.qformer.state_dict())  # type: ignore[union-attr]
    features = torch.randn(2, 3, 10, 32)
    seen = model.ln_vision(features.mean(1))
    queries = connector.query_embeddings.repeat(2, 1, 1)  # type: ignore[operator]
    want = model.lm_proj(reference(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state)
    torch.testing.assert_close(model.soft_prompts(features), want)


def test_qformer_starts_from_bert() -> None:
    """Blind, it is BERT without positions; what looks at visual tokens has no weights in BERT."""
    bert = BertModel(
        BertConfig(
            vocab_size=10, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=8, layer_norm_eps=1e-12,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for name, parameter in bert.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
            if "position" in name or "token_type" in name:
                parameter.zero_()
    config = QFormerConfig(layers=2, width=24, heads=4, intermediate=48, queries=6)
    connector = QFormer(config, vision_width=32).eval()
    assert start_from_bert(connector, bert.state_dict()) == []
    crossing = connector.qformer.encoder.layer[0].crossattention.output
    nn.init.zeros_(crossing.dense.weight)
    nn.init.zeros_(crossing.dense.bias)
    crossing.LayerNorm = nn.Identity()
    want = bert(inputs_embeds=connector.query_embeddings).last_hidden_state
    torch.testing.assert_close(connector(torch.randn(1, 9, 32)).tokens, want, rtol=1e-4, atol=1e-5)
    missing = start_from_bert(QFormer(config.model_copy(update={"width": 16}), 32), bert.state_dict())
    assert "encoder.layer.1.output_query.dense.weight" in missing


def norm(layer: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


@pytest.mark.parametrize(("layers", "see_queries", "intermediate"), [(2, True, 48), (1, False, 0)], ids=["all", "coca"])
def test_perceiver_is_its_definition(layers: int, see_queries: bool, intermediate: int) -> None:
    """arXiv 2204.14198, section 3.1.1, and its case arXiv 2205.01917, section 3.2: a query and a head at a time."""
    torch.manual_seed(0)
    config = PerceiverConfig(
        layers=layers, width=8, heads=2, intermediate=intermediate, queries=3, see_queries=see_queries
    )
    connector = Perceiver(config).eval()
    with torch.no_grad():
        for parameter in connector.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    x = torch.randn(2, 5, 8)
    for item, found in zip(x, connector(x).tokens, strict=True):
        queries = connector.query_embeddings[0]
        for layer in connector.layer:
            query, seen = norm(layer.norm_queries, queries), norm(layer.norm_tokens, item)
            seen = torch.cat([seen, query]) if see_queries else seen
            attended = torch.zeros(3, 8)
            for i in range(3):
                for part in (slice(0, 4), slice(4, 8)):
                    q, k, v = layer.query(query[i])[part], layer.key(seen)[:, part], layer.value(seen)[:, part]
                    weights = torch.tensor([math.exp((q @ key).item() / 2) for key in k])
                    attended[i, part] = (weights / weights.sum()) @ v
            queries = queries + layer.output(attended)
            if intermediate:
                first, second = layer.feed_forward[1], layer.feed_forward[3]
                queries = queries + second(nn.functional.gelu(first(norm(layer.feed_forward[0], queries))))
        torch.testing.assert_close(found, norm(connector.final_norm, queries), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool_to", [1, 4, 7, 10])
def test_pooling_is_the_mean_of_spans(pool_to: int) -> None:
    """Span i of N tokens in Q goes from floor(i N / Q) to ceil((i + 1) N / Q)."""
    x = torch.randn(2, 10, 5)
    spans = [range(i * 10 // pool_to, -(-(i + 1) * 10 // pool_to)) for i in range(pool_to)]
    want = torch.stack([sum(nn.functional.gelu(x[:, n]) for n in span) / len(span) for span in spans], dim=1)
    torch.testing.assert_close(Pooling(MlpConfig(pool_to=pool_to))(x).tokens, want)


@pytest.mark.parametrize(("kind", "pool_to"), [("linear", 10), ("linear", 6), ("mlp", 10), ("mlp", 6)])
def test_linear_maps_come_first_as_well(kind: str, pool_to: int) -> None:
    """LLaVA maps every token; that it is pooled before the last map makes no difference."""
    model = tiny_model(with_connector(tiny_config(), **{**KINDS[kind], "pool_to": pool_to}))
    features = torch.randn(2, 3, 10, 32)
    maps = nn.Sequential(model.vl_proj, nn.GELU()) if kind == "mlp" else nn.Identity()
    every = model.lm_proj(maps(model.ln_vision(features.mean(1))))
    want = nn.functional.adaptive_avg_pool1d(every.transpose(1, 2), pool_to).transpose(1, 2)
    torch.testing.assert_close(model.soft_prompts(features), want)


@kinds
@pytest.mark.parametrize("fusion", ["mean", "mean-prompts", "concat", "temporal"])
def test_every_kind_with_every_fusion(kind: str, fusion: str) -> None:
    """Sizes are the configured ones, a batch of one is a batch of many, and gradients reach all that is trained."""
    model = of_kind(kind, fusion)
    pixels = torch.randn(2, 3, 3, 48, 48)
    prompts = model.soft_prompts(model.encode(pixels))
    assert prompts.shape == (2, model.config.soft_prompt_tokens(3), 32)
    assert prompts.shape[1] == 6 * (3 if fusion == "concat" else 1)
    torch.testing.assert_close(model.soft_prompts(model.encode(pixels[1:])), prompts[1:], rtol=1e-4, atol=1e-5)
    many = model.generate(pixels, num_beams=2, max_new_tokens=4)
    assert model.generate(pixels[1:], num_beams=2, max_new_tokens=4).token_ids()[0] == many.token_ids()[1]
    trained = {n: p for n, p in model.named_parameters() if n in model.trainable_names() and "prompt_" not in n}
    for parameter in trained.values():
        parameter.requires_grad_()
    model([[[5, 6, 7]]] * 2, pixel_values=pixels).loss.backward()
    closed = (".query.", ".key.")  # of temporal modules, whose gates begin at 0
    blind = {n for n, p in trained.items() if p.grad is None or not p.grad.any()}
    assert {n for n in blind if not (n.startswith("vision.") and any(part in n for part in closed))} <= {
        n
        for n in trained
        if n.endswith("key.bias")  # softmax takes no notice of it
    }


@kinds
def test_saved_and_loaded_it_says_the_same(kind: str, tmp_path: Path) -> None:
    model = of_kind(kind)
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    again = EVLGenForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config == model.config
    features = torch.randn(1, 3, 10, 32)
    torch.testing.assert_close(again.soft_prompts(features), model.soft_prompts(features), rtol=0, atol=0)
    half = again.to(torch.bfloat16)
    assert half.soft_prompts(features).dtype == torch.bfloat16
    tiny_model().save_pretrained(tmp_path / "merging")
    with pytest.raises(WeightsError):
        again.load_trained(tmp_path / "merging" / "model.safetensors")


@kinds
def test_only_tomeformer_has_an_r(kind: str) -> None:
    message = rf"--r 2: the connector is of kind {kind}, which merges no tokens \(one of kind tomeformer does\)"
    with pytest.raises(UsageError, match=message):
        of_kind(kind).use_r("2")


@kinds
def test_queries_do_not_decay(kind: str) -> None:
    named = dict(of_kind(kind).connector.named_parameters())
    decayed = {id(p) for p in parameter_groups(named, OptimizerConfig())[0]["params"]}  # type: ignore[attr-defined]
    assert {n for n, p in named.items() if id(p) in decayed} == {
        n for n, p in named.items() if p.dim() > 1 and n != "query_embeddings"
    }


@kinds
def test_what_needs_merging_refuses_it_in_a_line(kind: str, tmp_path: Path) -> None:
    of_kind(kind).save_pretrained(tmp_path / "model")
    merges = rf"the connector is of kind {kind}, which merges no tokens"
    with pytest.raises(UsageError, match=rf"--r 1: {merges}"):
        resolve_r(str(tmp_path / "model"), "1")
    with pytest.raises(UsageError, match=rf"--model .*model cannot be drawn: {merges}"):
        visualize(VisualizeRequest(tmp_path / "clip.mp4", (tmp_path / "x.png",), (str(tmp_path / "model"),)))
    with pytest.raises(UsageError, match=rf"the connector of .*model is of kind {kind}, the authors' is TomeFormer"):
        to_authors(str(tmp_path / "model"), tmp_path / "x.pth")


def test_a_configuration_without_a_kind_is_a_tomeformers() -> None:
    content = tiny_config().model_dump()
    assert content["connector"].pop("kind") == "tomeformer"
    assert EVLGenConfig.model_validate(content) == tiny_config()


def test_more_soft_prompts_than_visual_tokens_are_no_pooling() -> None:
    with pytest.raises(ValueError, match=r"connector\.pool_to 11 is more than the 10 visual tokens"):
        with_connector(tiny_config(), kind="mlp", pool_to=11)
