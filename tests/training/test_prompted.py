"""Training on questions and answers: rows of a file, tokens with a loss, and a run that learns to answer."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evlgen.data.batches import CaptionSource, tokenize
from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.modeling.language import _byte_tokenizer
from evlgen.recipes.schema import ValidationConfig
from evlgen.training import train
from evlgen.training.processes import Processes
from evlgen.training.task import CaptionTask
from evlgen.training.training_sources import Loader
from evlgen.training.validation import CaptionScores, Validator
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, tiny_config, tiny_model
from tests.training.conftest import COLOURS, make_recipe

ANSWERS = {"red": ("r", "1"), "green": ("g", "2"), "blue": ("b", "3"), "white": ("w", "4")}


QUESTIONS = {"colours": "c?", "numbers": "n?"}


def write_questions(folder: Path) -> None:
    """Two prompts a picture, each a row, with different answers: all in captions.jsonl, and a file of each prompt."""
    rows = {
        name: [
            {"image": f"{colour}.png", "prompt": prompt, "caption": answers[place]}
            for colour, answers in ANSWERS.items()
        ]
        for place, (name, prompt) in enumerate(QUESTIONS.items())
    }
    for name, found in {**rows, "captions": list(chain(*rows.values()))}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.fixture
def language(tmp_path: Path) -> Path:
    """Folder of a tiny language model that knows what to say behind "<", the letter of a colour, ">" and a
    prompt."""
    torch.manual_seed(0)
    settings = dict(TINY_LLAMA)
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    model, tokenizer = transformers.AutoModelForCausalLM.from_config(config), _byte_tokenizer()
    asked = QUESTIONS.values()
    texts = [
        f"<{answers[0] * 5}>{p} {a}\n" for answers in ANSWERS.values() for p, a in zip(asked, answers, strict=True)
    ]
    ids = torch.tensor([tokenizer.encode(text) for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(90):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "language")
    tokenizer.save_pretrained(tmp_path / "language")
    return tmp_path / "language"


def test_a_run_counts_the_tokens_of_answers_alone(pictures: Path) -> None:
    write_questions(pictures)
    recipe = make_recipe(
        pictures,
        data={"captions_per_item": 2},
        vocabulary={"steps": 0},
        train={"steps": 3, "log_every": 1},
    )
    train(recipe, folder=pictures / "run", device="cpu")
    records = [json.loads(line) for line in (pictures / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["tokens"] for record in records if "tokens" in record] == [8 * 3] * 3, "a blank, a letter, the end"


@pytest.mark.slow
def test_a_run_learns_to_answer_each_question_of_a_picture(pictures: Path, language: Path) -> None:
    write_questions(pictures)
    model = make_recipe(pictures).model.model_dump()
    model["language"] |= {"source": str(language), "architecture": None}
    model["connector"] |= {"dropout": 0.0}
    recipe = make_recipe(
        pictures,
        model=model,
        data={
            "captions_per_item": 2,
            "max_frames": 1,
            "validation": [
                {"captions": str(pictures / f"{name}.jsonl"), "media": str(pictures / "media")} for name in QUESTIONS
            ],
        },
        optimizer={"learning_rate": 1e-2, "warmup_steps": 5},
        vocabulary={"steps": 0},
        validation={"max_new_tokens": 2, "every_steps": 80},
        train={"steps": 80, "log_every": 80},
    )
    figures = train(recipe, folder=pictures / "run", device="cpu")
    for place, name in enumerate(QUESTIONS):
        said = figures[f"{pictures.name}/{name}"]
        assert said["captions"] == [answers[place] for answers in ANSWERS.values()][: len(said["captions"])]
        assert said["distinct_captions"] == len(ANSWERS) == len(COLOURS)


def test_only_answers_have_a_loss_and_validation_asks_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_config(TINY_CNN))
    items = [
        CaptionedItem("a", ("red", "two", "dark red"), ("colour?", "count?", "colour?")),
        CaptionedItem("b", ("green",), ("what colour is it?",)),
        CaptionedItem("c", ("a plain caption",)),
    ]
    ids = tokenize(items, model.language.encode_caption)
    encode = model.language.encode
    assert ids[0][0] == [*encode(" red"), model.language.end_token_id]
    assert ids[0][0].prompt == encode("colour?")  # type: ignore[attr-defined]
    assert ids[2][0] == [*encode("a plain caption"), model.language.end_token_id]

    features = torch.randn(3, 1, model.config.vision.tokens, model.vision.feature_width)
    output = model(ids, features=features)
    assert output.tokens == sum(len(caption) for item in ids for caption in item)
    prefixes = model.prefix(model.soft_prompts(features))
    want = []
    for prefix, item in zip(prefixes, items, strict=True):
        for text, prompt in item.prompted:
            before, after = encode(prompt), [*encode(f" {text}" if prompt else text), model.language.end_token_id]
            embedded = torch.cat([prefix, model.language.embed(torch.tensor(before + after))])[None]
            log_p = model.language.model(inputs_embeds=embedded).logits[0].log_softmax(-1)
            start = len(prefix) + len(before) - 1
            want.append(sum(log_p[start + n, token] for n, token in enumerate(after)))
    torch.testing.assert_close(output.log_probabilities, torch.stack(want), rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]

    class Fixed:
        views, frames = 1, [1] * 3

        def get(self, item: int, chosen: list[int], view: int) -> Any:
            return features[item].numpy()

    source = CaptionSource("s", items, Fixed(), ids)
    asked: list[Any] = []
    generate = model.generate_from
    monkeypatch.setattr(
        model, "generate_from", lambda *given, **how: (asked.append(how["prompt"]), generate(*given, **how))[1]
    )
    seen: list[Any] = []
    init = CaptionScores.__init__
    monkeypatch.setattr(CaptionScores, "__init__", lambda self, r, n: (seen.append(r), init(self, r, n))[1])
    task = CaptionTask(model, None, torch.float32)
    config = ValidationConfig(loss_items=3, caption_items=3, max_new_tokens=3)
    figures = Validator([source], config, 1, Processes("cpu")).run(task, task)["s"]
    shown = [item[:2] for item in ids]
    assert figures["loss"] == pytest.approx(model(shown, features=features).loss.item(), rel=1e-5)
    assert asked == [["colour?", "what colour is it?", ""]]
    assert seen == [[("red", "dark red"), ("green",), ("a plain caption",)]]


@pytest.mark.parametrize(
    ("sections", "named"),
    [({"data": {"consensus": 1.0}}, "data.consensus"), ({"scst": {"samples": 2}}, "scst.samples")],
)
def test_what_compares_captions_of_an_item_refuses_prompts(pictures: Path, sections: Any, named: str) -> None:
    write_questions(pictures)
    start = {"vocabulary": {"steps": 0}, "train": {"start_from": str(pictures)}} if "scst" in sections else {}
    recipe = make_recipe(pictures, **sections, **start)
    with pytest.raises(UsageError) as caught:
        Loader(recipe, None, lambda: False)
    assert str(caught.value) == (
        f"{pictures / 'captions.jsonl'} has captions with prompts or questions, with which {named} cannot work "
        f"(set {named} to 0)"
    )
