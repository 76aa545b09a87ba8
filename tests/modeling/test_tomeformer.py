"""TomeFormer against transformers' BERT, and its token arithmetic against the paper's numbers."""

from collections.abc import Callable

import pytest
import torch
from transformers import BertConfig, BertModel

from evlgen.configuration import EVLGenConfig, LanguageConfig, VisionConfig
from evlgen.connector_config import TomeFormerConfig
from evlgen.modeling.tomeformer import TomeFormer, load_bert

SIZES = {"layers": 3, "width": 32, "heads": 4, "intermediate": 64, "dropout": 0.0}


def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=10, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=40, layer_norm_eps=1e-12,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def as_published(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Under the names in the file of bert-base-uncased, which are older than transformers' own of today."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in tensors.items():
        for now, before in old.items():
            name = name.replace(now, before)
        renamed[f"bert.{name}"] = tensor
    return renamed


@pytest.mark.parametrize("names", [dict, as_published])
def test_without_merging_it_equals_bert(names: Callable[..., dict[str, torch.Tensor]]) -> None:
    reference = bert()
    ours = TomeFormer(TomeFormerConfig(**SIZES, r=0), tokens=17).eval()
    assert load_bert(ours, names(reference.state_dict())) == []
    x = torch.randn(2, 17, 32)
    want = reference(inputs_embeds=x).last_hidden_state
    torch.testing.assert_close(ours(x).tokens, want, rtol=1e-5, atol=1e-5)


def test_proportional_attention_changes_nothing_until_tokens_merge() -> None:
    plain = TomeFormer(TomeFormerConfig(**SIZES, r=0), tokens=9).eval()
    other = TomeFormer(TomeFormerConfig(**SIZES, r=0, proportional_attention=True), tokens=9).eval()
    other.load_state_dict(plain.state_dict())
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(plain(x).tokens, other(x).tokens)


def test_proportional_attention_equals_repeating_a_token() -> None:
    """log(size) in the logits makes one token of size 2 count like two equal tokens (arXiv 2210.09461, section 3.2)."""
    config = TomeFormerConfig(**SIZES, r=0, proportional_attention=True)
    layer = TomeFormer(config, tokens=9).eval().encoder.layer[0]
    x = torch.randn(1, 4, 32)
    merged, _, _ = layer(x, torch.tensor([[1.0, 1.0, 1.0, 2.0]]))
    repeated, _, _ = layer(torch.cat([x, x[:, 3:]], dim=1), torch.ones(1, 5))
    torch.testing.assert_close(merged, repeated[:, :4], rtol=1e-5, atol=1e-5)


def released(r: object, layers: int = 12) -> EVLGenConfig:
    return EVLGenConfig(
        vision=VisionConfig(name="eva_giant_patch14_224", image_size=224, width=1408, tokens=257),
        connector=TomeFormerConfig(r=r, layers=layers),
        language=LanguageConfig(width=2560),
    )


@pytest.mark.parametrize(
    ("r", "soft_prompts"), [(19, 29), (16, 65), (0, 257), ([19] * 12, 29), ([19, 0.5], 29), ([19, -1.0], 29)]
)
def test_token_counts_of_the_paper(r: object, soft_prompts: int) -> None:
    assert released(r).soft_prompt_tokens() == soft_prompts


def test_configured_token_counts_are_the_real_ones() -> None:
    for r in (0, 3, 7, [1, 5, 2], (4, -1.0), (4, 1.0)):
        config = EVLGenConfig(
            vision=VisionConfig(name="x", image_size=16, width=8, tokens=17),
            connector=TomeFormerConfig(**SIZES, r=r),
            language=LanguageConfig(width=8),
        )
        counts, x = [], torch.randn(1, 17, 32)
        out = TomeFormer(config.connector, 17)(x)
        tokens = 17
        for destination in out.destinations:
            tokens = tokens if destination is None else int(destination.max()) + 1
            counts.append(tokens)
        assert out.tokens.shape[1] == config.tokens_per_layer()[-1]
        assert counts == config.tokens_per_layer()


@pytest.mark.parametrize(("r", "message"), [([1, 2], "2 entries for 12"), (-1, "negative"), ([3, 2.0], "between -1")])
def test_bad_schedules_are_refused(r: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TomeFormerConfig(r=r)


def test_schedules_rise_and_fall_with_the_same_total() -> None:
    rising, falling = (TomeFormerConfig(r=[4, i], layers=5).schedule() for i in (1.0, -1.0))
    assert rising == [0, 2, 4, 6, 8]
    assert falling == [8, 6, 4, 2, 0]


def test_a_bert_of_another_width_is_not_taken_for_a_start() -> None:
    other = TomeFormer(TomeFormerConfig(**{**SIZES, "width": 16}, r=0), tokens=9)
    missing = load_bert(other, bert().state_dict())
    assert "encoder.layer.0.attention.self.query.weight" in missing


def only_merging(tokens: int, **settings: object) -> TomeFormer:
    """A connector whose layers add nothing to tokens; what is similar to what still depends on the keys."""
    torch.manual_seed(2)
    connector = TomeFormer(TomeFormerConfig(**SIZES, norm="pre", **settings), tokens).eval()
    for layer in connector.encoder.layer:
        torch.nn.init.zeros_(layer.attention.output.dense.weight)
        torch.nn.init.zeros_(layer.output.dense.weight)
        torch.nn.init.normal_(layer.attention.self.key.weight)
    connector.final_norm = torch.nn.Identity()
    return connector


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted by size", "plain"])
@pytest.mark.parametrize(("tokens", "r"), [(17, 4), (10, [3, 0, 2]), (9, 0), (4, 19)])
def test_groups_are_what_the_tokens_are_made_of(tokens: int, r: object, weighted: bool) -> None:
    """Members are counted and averaged one by one: of all first tokens by size, else layer by layer."""
    connector = only_merging(tokens, r=r, size_weighted=weighted)
    x = torch.randn(2, tokens, 32)
    first = connector.embeddings(x)
    out = connector(x)
    groups = out.groups()
    assert len(groups) == 3
    for b in range(2):
        was, values = list(range(tokens)), [row.tolist() for row in first[b]]
        for layer in groups:
            now = layer[b].tolist()
            count = max(now) + 1
            assert sorted(set(now)) == list(range(count))  # a partition of all: every group has a member
            if weighted:
                parts = [[first[b, n] for n in range(tokens) if now[n] == g] for g in range(count)]
            else:
                merged = [sorted({was[n] for n in range(tokens) if now[n] == g}) for g in range(count)]
                assert sum(map(len, merged)) == len(values)  # what was one group stays one
                parts = [[torch.tensor(values[old]) for old in group] for group in merged]
            values = [torch.stack(part).mean(0).tolist() for part in parts]
            was = now
        torch.testing.assert_close(out.tokens[b], torch.tensor(values))
        assert out.sizes[b].tolist() == [was.count(g) for g in range(len(values))]


def test_without_merging_every_token_is_a_group_of_its_own() -> None:
    groups = TomeFormer(TomeFormerConfig(**SIZES, r=0), tokens=9).eval()(torch.randn(1, 9, 32)).groups()
    assert [layer.tolist() for layer in groups] == [[list(range(9))]] * 3
