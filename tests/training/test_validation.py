"""Figures of a validation against the reference implementation, by hand, and against the model called directly."""

import importlib.util
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evlgen.data.batches import CaptionSource, plain_features
from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.recipes.schema import ValidationConfig
from evlgen.training import train
from evlgen.training.processes import Processes
from evlgen.training.task import CaptionTask
from evlgen.training.training_sources import Loader
from evlgen.training.validation import CaptionScores, Validator
from evlgen.video import ClipFrames, DecodePool, Sampler
from tests.modeling.conftest import TINY_CNN, tiny_config, tiny_model
from tests.training.conftest import make_recipe
from tests.video.video_clips import read_barcode, write_clip

REFERENCES = [
    ("A man rides a red bike.", "a man is riding a bicycle"),
    ("Two dogs play in the snow", "dogs are playing outside", "Dogs in snow!"),
    ("A crowd in Washington D.C.",),
    ("A red bike in the snow",),
]
CAPTIONS = ["a man riding a red bike", "two dogs in the snow"]


def test_scores_are_the_reference_implementation_s_with_frequencies_of_all_references() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    def words(text: str) -> str:
        return text.lower().rstrip(".!")

    truth = {k: [words(r) for r in many] for k, many in enumerate(REFERENCES)}
    truth[2] = ["a crowd in washington d.c."]
    _, each = Cider().compute_score(truth, {k: [[*CAPTIONS, "x", "x"][k]] for k in range(4)})
    few, said = {k: truth[k] for k in range(2)}, {k: [CAPTIONS[k]] for k in range(2)}
    bleu, _ = Bleu(4).compute_score(few, said, verbose=0)
    rouge, _ = Rouge().compute_score(few, said)
    figures = CaptionScores(REFERENCES, 2).of(CAPTIONS)
    assert figures == {
        "cider": pytest.approx(100 * float(np.mean(each[:2]))),
        "bleu-4": pytest.approx(100 * bleu[3]),
        "rouge-l": pytest.approx(100 * float(rouge)),
        "mean_words": 5.5,
        "distinct_captions": 2,
        "bad_endings": 0.0,
    }


def test_references_are_those_that_people_wrote(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut and lower-cased captions are what is trained on; "D.C." without its last full stop is another token."""
    rows = [json.dumps({"image": f"{n}.png", "captions": ["In Washington D.C.", "B ."]}) for n in ("red", "green")]
    (pictures / "captions.jsonl").write_text("\n".join(rows))
    seen: list[Any] = []
    init = CaptionScores.__init__
    monkeypatch.setattr(CaptionScores, "__init__", lambda self, r, n: (seen.append(r), init(self, r, n))[1])
    trained: list[Any] = []
    made = CaptionSource.__post_init__
    monkeypatch.setattr(CaptionSource, "__post_init__", lambda self: (trained.append(self.items), made(self))[1])
    train(make_recipe(pictures, train={"steps": 3, "precision": "float32"}), folder=pictures / "run", device="cpu")
    assert seen == [[("In Washington D.C.", "B .")] * 2], "prepared once"
    assert trained[1][0].captions == ("in washington d.c", "b")


def source_of(model: EVLGenForConditionalGeneration, frames: int) -> CaptionSource:
    class Noise:
        views = 1

        def __init__(self) -> None:
            vision = model.config.vision
            self.rows = np.random.default_rng(0).normal(size=(5, frames, vision.tokens, model.vision.feature_width))
            self.frames = [frames] * 5

        def get(self, item: int, chosen: list[int], view: int) -> Any:
            return self.rows[item][chosen].astype(np.float16)

    items = [CaptionedItem(str(k), (f"{k} is", f"no {k}", "x")) for k in range(5)]
    ids = [[model.language.encode_caption(c) for c in item.captions] for item in items]
    return CaptionSource("noise", items, Noise(), ids)


def test_loss_and_gap_are_those_of_the_model() -> None:
    model = tiny_model(tiny_config(TINY_CNN, fusion="temporal"))
    with torch.no_grad():
        model.vision.after.alpha.fill_(0.5)
    source = source_of(model, frames=3)
    task = CaptionTask(model, None, torch.float32)
    config = ValidationConfig(loss_items=4, caption_items=3, max_new_tokens=30, repetition_penalty=5.0)
    validator = Validator([source], config, 3, Processes("cpu"))
    figures = validator.run(task, task)["noise"]
    features = torch.from_numpy(np.stack([source.cache.get(k, [0, 1, 2], 0) for k in range(4)]))
    captions = [ids[:2] for ids in source.token_ids[:4]]
    matched = model(captions, features=features).loss.item()
    shuffled = model(captions, features=features[[3, 0, 1, 2]]).loss.item()
    assert figures["loss"] == pytest.approx(matched, rel=1e-5)
    assert figures["gap"] == pytest.approx(shuffled - matched, abs=1e-5)
    greedy = {"features": features[:3], "num_beams": 1, "max_new_tokens": 30}
    assert figures["captions"] == model.generate(**greedy, repetition_penalty=5.0).texts
    assert figures["captions"] != model.generate(**greedy).texts
    listened = model.vision.after.attention(features.float()).mean(dim=(0, 1, 2))
    assert torch.tensor(figures["frame_attention"]) == pytest.approx(listened, abs=1e-4)


def test_the_best_is_best_by_the_metric_that_was_named() -> None:
    report = {"a": {"loss": 2.0, "gap": 0.5, "cider": 30.0, "bleu-4": 10.0, "rouge-l": 40.0}}
    report["b"] = {"loss": 3.0, "gap": 0.3, "cider": 20.0, "bleu-4": 14.0, "rouge-l": 42.0}
    scores = {"cider+bleu-4": 37.0, "cider": 25.0, "bleu-4": 12.0, "rouge-l": 41.0, "loss": -2.5, "gap": 0.4}
    for metric, score in scores.items():
        validator = Validator([], ValidationConfig(metric=metric), 1, Processes("cpu"))
        assert validator.score(report) == pytest.approx(score)


def test_a_metric_of_captions_needs_captions() -> None:
    with pytest.raises(ValueError, match=r"validation.metric cider\+bleu-4 needs validation.caption_items above 0"):
        ValidationConfig(caption_items=0)
    assert ValidationConfig(caption_items=0, metric="loss").metric == "loss"


def test_figures_reach_a_tracker_and_a_missing_one_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, dict[str, Any]]] = []

    class Tracker:
        requires_logging_directory = True

        def __init__(self, name: str, folder: str) -> None:
            told.append((-1, {"name": name, "folder": folder}))

        def start(self) -> None: ...

        def log(self, values: dict[str, Any], step: int) -> None:
            told.append((step, values))

        def finish(self) -> None:
            told.append((-2, {}))

    recipe = make_recipe(
        pictures, train={"steps": 3, "precision": "float32", "log_every": 1, "trackers": ["tensorboard"]}
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorboard" else name)
    with pytest.raises(UsageError, match=r"the package tensorboard is not installed \(pip install 'evlgen"):
        train(recipe, folder=pictures / "none", device="cpu")
    assert not (pictures / "none").exists(), "before anything is loaded"
    monkeypatch.undo()
    monkeypatch.setenv("EVLGEN_CACHE", str(pictures / "cache"))
    monkeypatch.setitem(sys.modules, "tensorboard", sys)
    find = importlib.util.find_spec  # others look for packages of their own while it is patched
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *of: name == "tensorboard" or find(name, *of))
    monkeypatch.setitem(__import__("accelerate.tracking").tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Tracker)
    train(recipe, folder=pictures / "run", device="cpu")
    assert told[0] == (-1, {"name": "tensorboard", "folder": str(pictures / "run")})
    assert told[-1] == (-2, {})
    rows = [json.loads(line) for line in (pictures / "run" / "log.jsonl").read_text().splitlines()]
    assert [step for step, _ in told[1:-1]] == [r["step"] for r in rows[1:]]
    (name, figures), last = next(iter(rows[-1]["validation"].items())), told[-2][1]
    assert last[f"validation/{name}/cider"] == figures["cider"]
    assert last["score"] == figures["cider"] + figures["bleu-4"]


@pytest.mark.parametrize("count", [50, 3])
def test_a_run_chooses_by_the_frames_that_evaluation_looks_at(tmp_path: Path, count: int) -> None:
    """Bar codes say which frames of a clip validation gets, whatever training keeps: those of evaluation's sampler."""
    (tmp_path / "media").mkdir()
    clip = write_clip(tmp_path / "media" / "a.mp4", count=count)
    (tmp_path / "captions.jsonl").write_text(json.dumps({"video": "a.mp4", "captions": ["a box"]}) + "\n")
    recipe = make_recipe(tmp_path, data={"choose_from": 8, "visual": "pixels"}, vocabulary={"steps": 0})
    with closing(Loader(recipe, None, lambda: False)) as loader:
        sources = loader.sources(EVLGenForConditionalGeneration.from_config(recipe.model))
        assert sources is not None
        (shown,) = plain_features(sources[1][0], [[0]], recipe.model.temporal.frames)
        kept = len(sources[0][0].cache.frames), sources[0][0].cache.frames[0]
    assert kept == (1, min(count, 8)), "training chooses from more"
    with DecodePool(workers=1, sampler=Sampler(frames=recipe.model.temporal.frames)) as pool:
        (wanted,) = pool.map([clip])
    assert isinstance(wanted, ClipFrames)
    seen = [read_barcode(frame.permute(1, 2, 0).numpy()) for frame in shown[0]]
    assert seen == [read_barcode(frame) for frame in wanted.frames]


def test_validation_decodes_as_it_is_told() -> None:
    with pytest.raises(ValueError, match=r"validation\.min_new_tokens 24 leaves no room below"):
        ValidationConfig(min_new_tokens=24)
    model = tiny_model(tiny_config(TINY_CNN))
    source = source_of(model, 3)
    decoding: dict[str, Any] = {"min_new_tokens": 5, "max_new_tokens": 9, "length_penalty": 2.0}
    config = ValidationConfig(loss_items=4, caption_items=4, num_beams=2, **decoding)
    task = CaptionTask(model, None, torch.float32)
    figures = Validator([source], config, 3, Processes("cpu")).run(task, task)
    visual = next(iter(plain_features(source, [[0, 1, 2]], 3)))
    direct = model.generate(features=visual, num_beams=2, **decoding)
    assert figures["noise"]["captions"] == direct.texts
