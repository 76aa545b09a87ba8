"""BLIP-2's first stage against transformers' own image-text retrieval, and what each pass may see."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel, Blip2Config, Blip2ForImageTextRetrieval

from evlgen.connector_config import QFormerConfig
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.connectors import QFormer
from evlgen.recipes.schema import RepresentationConfig
from evlgen.training import train
from evlgen.training.objectives import RepresentationObjective, contrast_loss, hard_negatives
from tests.modeling.conftest import TINY_CNN, tiny_config, with_connector
from tests.training.conftest import make_recipe

PIECES = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"a dog cat runs sits the on grass".split()]
TEXTS = ["a dog runs", "the cat sits on the grass", "a cat"]
SIZES = {"width": 24, "heads": 4, "intermediate": 40, "layers": 3}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(PIECES)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made.enable_padding(length=64)  # as the published files of sentence encoders have it
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.fixture
def objective(tokenizer: Path) -> RepresentationObjective:
    torch.manual_seed(0)
    connector = QFormer(QFormerConfig(kind="qformer", queries=5, dropout=0.0, **SIZES), 16)
    made = RepresentationObjective(connector, RepresentationConfig(contrast_width=8), tokenizer).eval()
    with torch.no_grad():
        for parameter in [*connector.parameters(), *made.parameters()]:
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return made


def theirs_of(ours: RepresentationObjective) -> Any:
    """transformers' model with our weights; its vision tower gives what it is given."""
    connector, both = ours._shared
    sizes = Blip2Config(
        qformer_config={**both.config.to_dict(), "vocab_size": len(PIECES) + 1, "max_position_embeddings": 32},
        vision_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
        num_query_tokens=5,
        image_text_hidden_size=8,
    )
    theirs = Blip2ForImageTextRetrieval(sizes).eval()
    theirs.qformer.load_state_dict(both.state_dict())
    theirs.query_tokens.data.copy_(connector.query_embeddings)
    for name, part in (("text_projection", ours.read), ("vision_projection", ours.see), ("itm_head", ours.match)):
        getattr(theirs, name).load_state_dict(part.state_dict())
    theirs.embeddings.word_embeddings.weight.data.copy_(ours.word_embeddings.weight)
    theirs.embeddings.position_embeddings.weight.data.copy_(ours.position_embeddings.weight)
    del theirs.vision_model
    theirs.vision_model = lambda pixel_values, **_: (pixel_values,)
    return theirs


def test_contrast_and_matching_see_what_transformers_retrieval_model_sees(objective: RepresentationObjective) -> None:
    theirs, tokens = theirs_of(objective), torch.randn(3, 7, 16)
    ids, mask = objective.tokenize(TEXTS)
    assert ids[2].tolist() == [1, 4, 6, 2, 0, 0, 0, 0]
    given = {"pixel_values": tokens, "input_ids": ids, "attention_mask": mask.long()}
    found: dict[str, Tensor] = {}
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        want = theirs(**given, use_image_text_matching_head=True).logits_per_image
        matched = objective.match(objective.run(tokens, ids, mask)[:, :5]).mean(dim=1)
        similarity = theirs(**given, use_image_text_matching_head=False).logits_per_image
        kept = lambda s: found.setdefault("similarity", s).mean()  # noqa: E731
        patch.setattr("evlgen.training.objectives.contrast_loss", kept)
        objective(tokens, TEXTS)
    torch.testing.assert_close(matched, want)
    torch.testing.assert_close(found["similarity"] * 0.07, similarity)  # rows are pictures in both


def test_captions_see_the_queries_and_what_stands_before_them(objective: RepresentationObjective) -> None:
    tokens = torch.randn(3, 7, 16)
    ids, mask = objective.tokenize(TEXTS)
    before = objective.run(tokens, ids, mask, causal=True)
    torch.testing.assert_close(before[:, :5], objective.run(tokens, None, None))
    changed = ids.clone()
    changed[1, 4] = 5
    after = objective.run(tokens, changed, mask, causal=True)
    torch.testing.assert_close(after[:, : 5 + 4], before[:, : 5 + 4])
    assert not torch.allclose(after[1, 5 + 4 :], before[1, 5 + 4 :])
    other = objective.run(torch.randn(3, 7, 16), ids, mask, causal=True)
    assert not torch.allclose(other[:, 5:], before[:, 5:])


def test_the_caption_loss_is_that_of_the_pieces_that_come_next(objective: RepresentationObjective) -> None:
    tokens = torch.randn(1, 7, 16)
    alone = objective._generation(tokens, *objective.tokenize(TEXTS[2:]))
    begun = torch.tensor([[len(PIECES), 4, 6, 2]])  # [DEC] a cat [SEP]
    hidden = objective.run(tokens, begun, torch.ones(1, 4, dtype=torch.bool), causal=True)[0, 5:8]
    logits = objective.write(hidden) @ objective.word_embeddings.weight.T + objective.write_bias
    log_p = logits.log_softmax(-1)
    want = -(0.9 * log_p[range(3), [4, 6, 2]] + 0.1 * log_p.mean(-1)).mean()
    torch.testing.assert_close(alone, want)
    ids, mask = objective.tokenize(TEXTS)  # padding weighs nothing
    torch.testing.assert_close(objective._generation(tokens, ids[2:], mask[2:]), alone)


def test_contrast_by_hand_and_negatives_are_others() -> None:
    similarity = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = [F.cross_entropy(s, torch.arange(2), label_smoothing=0.1) for s in (similarity, similarity.T)]
    assert contrast_loss(similarity).item() == pytest.approx((rows[0] + rows[1]).item() / 2)
    assert contrast_loss(100 * torch.eye(4)) < contrast_loss(torch.eye(4)) * 10
    torch.manual_seed(0)
    wanted = torch.tensor([[9.0, 3.0, 0.0], [0.0, 9.0, 0.0], [-50.0, -50.0, 9.0]])
    drawn = torch.stack([hard_negatives(wanted) for _ in range(300)])
    assert not (drawn == torch.arange(3)).any()
    assert (drawn[:, 0] == 1).float().mean() > 0.8
    assert {0, 1} == set(drawn[:, 2].tolist())


def test_all_three_losses_are_learned(objective: RepresentationObjective) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(3, 7, 16)
    trained = [*objective._shared[0].parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=5e-3)
    losses = []
    for _ in range(40):
        found = objective(tokens, TEXTS)
        losses.append({name: loss.item() for name, loss in found.items()})
        optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        assert all(p.grad is not None for p in trained)
        optimizer.step()
    assert all(losses[-1][name] < 0.7 * losses[0][name] for name in losses[0]), losses[-1]


def test_it_starts_from_bert_and_says_what_does_not_fit(tokenizer: Path) -> None:
    connector = QFormer(QFormerConfig(kind="qformer", queries=5, **SIZES), 16)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    bert = BertModel(BertConfig(vocab_size=len(PIECES), max_position_embeddings=64, **sizes))
    config = RepresentationConfig(contrast_width=8, max_text_tokens=16)
    made = RepresentationObjective(connector, config, tokenizer, bert.state_dict())
    torch.testing.assert_close(made.word_embeddings.weight[:-1], bert.embeddings.word_embeddings.weight)
    torch.testing.assert_close(made.position_embeddings.weight, bert.embeddings.position_embeddings.weight[:16])
    torch.testing.assert_close(made.texts[2]["output"].dense.weight, bert.encoder.layer[2].output.dense.weight)
    other = BertModel(BertConfig(vocab_size=7, **sizes))
    with pytest.raises(UsageError, match=rf"tokenizer has {len(PIECES)} word pieces"):
        RepresentationObjective(connector, config, tokenizer, other.state_dict())
    Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).save(str(tokenizer))
    with pytest.raises(UsageError, match=r"has no \[PAD\], \[CLS\], \[SEP\]"):
        RepresentationObjective(connector, config, tokenizer)


def test_a_run_of_two_stages_goes_on_bit_for_bit(pictures: Path, tokenizer: Path) -> None:
    model = with_connector(tiny_config(TINY_CNN), kind="qformer", queries=5, dropout=0.1, **SIZES)
    first = {"steps": 3, "items_per_step": 4, "tokenizer": str(tokenizer), "contrast_width": 8, "warmup_steps": 1}
    off = {"steps": 0}
    recipe = make_recipe(pictures, model=model.model_dump(), train={"steps": 3}, vocabulary=off, representation=first)
    records: list[dict[str, Any]] = []
    calls = iter(range(1, 100))
    for folder, stop in (("whole", lambda: False), ("part", lambda: next(calls) == 2)):
        torch.manual_seed(0)  # the frozen parts are random: the same in every run
        train(recipe, folder=pictures / folder, device="cpu", stop=stop, report=records.append)
    train(recipe, folder=pictures / "part", device="cpu", resume=True)
    whole, part = (load_file(pictures / name / "last" / "training.safetensors") for name in ("whole", "part"))
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in whole)
    steps = {row["step"]: row for row in records if "gradient_norm" in row}
    assert all(steps[step]["matching_loss"] > 0 and "loss" not in steps[step] for step in (0, 1, 2))
    assert all("matching_loss" not in steps[step] and steps[step]["loss"] > 0 for step in (3, 4, 5))
    trained = EVLGenForConditionalGeneration.from_pretrained(pictures / "whole" / "best")
    assert trained.config == recipe.model
