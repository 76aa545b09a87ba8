"""Quality beside cost: captions of a data set by every variant of a model, and their scores.

Vision features are computed once for all variants that look at the same pictures: those of a frozen tower are the ones
that training keeps on disk, those of a tower whose frames meet inside stay in memory. Frames are chosen as validation
chooses them; scores are those of `evlgen eval`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evlgen.bench.variants import Shaper, Variant
from evlgen.captioners.evlgen_captioner import BATCH_SIZE, identify_model
from evlgen.data.batches import CaptionSource, VisualSource, plain_features
from evlgen.data.caption_sources import CaptionedItem, read_source
from evlgen.data.decoding import FrameReader
from evlgen.data.features import prepare_source
from evlgen.data.pixels import decoders_here, open_pixels
from evlgen.decoding_options import DecodingOptions
from evlgen.metrics.comparison import compare
from evlgen.metrics.evaluation import BootstrapOptions, evaluate
from evlgen.metrics.pairing import Paired, pair
from evlgen.metrics.predictions import Predictions
from evlgen.metrics.references import read_references
from evlgen.metrics.scoring import ScoringOptions
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.recipes.data_schema import DataConfig, DataSource
from evlgen.system.hashes import sha256_of
from evlgen.system.progress import ProgressCallback


@dataclass(frozen=True)
class CurveData:
    """What to caption and score.

    Attributes:
        captions: the file of captions.
        media: folder or archive of the files that it names.
        split: rows to take; None: all.
    """

    captions: Path
    media: Path
    split: str | None = None


@dataclass(frozen=True)
class CurvePoint:
    """Captions of a data set by one variant.

    Attributes:
        name, way, r: of the variant.
        trained: whether it merges as the model was trained.
        captions: by name of the item.
        scores: by name: value and interval in points, as `evlgen eval --json` has them.
        against: what `change` is from: for baselines merging by the same schedule, for merging the trained schedule
            (r = 0 where that was not asked for); "" for that one itself.
        change: CIDEr against that, paired: change, interval, and whether the interval leaves zero out.
        key: what the captions depend on.
    """

    name: str
    way: str
    r: str
    trained: bool
    captions: dict[str, str]
    scores: dict[str, Any]
    against: str = ""
    change: dict[str, Any] | None = None
    key: str = ""


Kept = Mapping[str, dict[str, str]]
"""Captions of an earlier run, by key."""


def score_variants(
    model: EVLGenForConditionalGeneration,
    name: str,
    compared: Mapping[str, Variant],
    data: CurveData,
    num_beams: int,
    kept: Kept,
    report: ProgressCallback,
    tell: Callable[[list[CurvePoint]], None],
) -> list[CurvePoint]:
    """Caption a data set with every variant and score it.

    Args:
        model: with its weights.
        name: of it, under which it can be found.
        compared: by name; those of another kind of connector are left out, since nobody has trained them.
        data: what to caption.
        num_beams: of the search.
        kept: captions that need not be made again.
        report: progress.
        tell: called with the points so far after each.

    Raises:
        UsageError: captions or media are not there.
        EvlgenError: too many items cannot be decoded.
    """
    kind = model.config.connector.kind
    own = {key: one for key, one in compared.items() if one.config.connector.kind == kind}
    settings = [_identity(name, model), sha256_of(data.captions), str(data.media.absolute()), data.split, num_beams]
    references = read_references(data.captions, split=data.split)
    paired: dict[str, Paired] = {}
    points: list[CurvePoint] = []
    with Looks(model, data, report) as looks:
        for variant in own.values():
            key = hashlib.sha256(json.dumps([*settings, _description(variant)]).encode()).hexdigest()[:32]
            captions = kept.get(key)
            if captions is None:
                captions = caption_all(looks, variant, num_beams, f"{name}: captions, {variant.name}")
            paired[variant.name] = pair(Predictions(data.captions, "bench", captions, {}, ()), references)
            scores = evaluate(paired[variant.name], ScoringOptions(), BootstrapOptions()).as_dict()["scores"]
            trained = variant.way == "merge" and variant.config.connector == model.config.connector
            points.append(CurvePoint(variant.name, variant.way, variant.r, trained, captions, scores, key=key))
            tell(points)
    return [_compared(one, points, paired) for one in points]


def _identity(name: str, model: EVLGenForConditionalGeneration) -> list[str]:
    found = identify_model(name)
    return [found.hash, found.config_hash, str(model.lm_proj.weight.dtype)]


def _description(variant: Variant) -> list[Any]:
    return [
        variant.way,
        variant.grid,
        variant.config.model_dump(mode="json", include={"vision", "connector", "temporal"}),
    ]


def _compared(point: CurvePoint, points: list[CurvePoint], paired: Mapping[str, Paired]) -> CurvePoint:
    merging = [one for one in points if one.way == "merge"]
    if point.way == "merge":
        first = next((one for one in merging if one.trained), merging[0])
    else:
        first = next((one for one in merging if one.r == point.r), point)
    if first.name == point.name:
        return point
    found = compare(
        paired[first.name], paired[point.name], ScoringOptions(metrics=("cider",)), BootstrapOptions(), largest=0
    )
    (cider,) = found.scores
    change = {"change": cider.change, "interval": cider.interval, "significant": cider.significant}
    return replace(point, against=first.name, change=change)


@dataclass
class Looks:
    """The visual input of a data set, in batches, as the variants of a model need it.

    Attributes:
        model: whose variants look.
        data: at what.
        report: progress of what is computed once.
    """

    model: EVLGenForConditionalGeneration
    data: CurveData
    report: ProgressCallback
    shaper: Shaper = field(init=False)
    _sources: dict[str, CaptionSource] = field(default_factory=dict)
    _encoded: dict[str, list[Tensor]] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.shaper = Shaper(self.model)

    def __enter__(self) -> Looks:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def source(self, variant: Variant) -> CaptionSource:
        """The items with features or pixels; the model is the variant while this is called."""
        vision = variant.config.vision.model_dump_json()
        if vision not in self._sources:
            config = DataSource(captions=str(self.data.captions), media=str(self.data.media), split=self.data.split)
            settings = DataConfig(train=[config], validation=[config])
            read = read_source(config, "validation", lower_case=False)
            if self.model.vision.cacheable:
                prepared = prepare_source(self.model, read, settings, report=self.report)
                assert prepared is not None, "nobody stops it"
                found: tuple[list[CaptionedItem], VisualSource] = prepared.items, prepared.cache
            else:
                frames, side = variant.config.temporal.frames, variant.config.vision.image_size
                reader = FrameReader(frames, side, workers=decoders_here())
                self._open.callback(reader.close)
                opened = open_pixels(read, settings, reader, report=self.report)
                assert opened is not None, "nobody stops it"
                found = opened
            self._sources[vision] = CaptionSource(read.name, *found, [])
        return self._sources[vision]

    def batches(self, variant: Variant) -> Iterator[tuple[list[str], Tensor]]:
        """Names of items and their features (B, F, N, C); the model is the variant meanwhile."""
        source, frames = self.source(variant), variant.config.temporal.frames
        places = [range(at, min(at + BATCH_SIZE, len(source))) for at in range(0, len(source), BATCH_SIZE)]
        names = [[source.items[i].name for i in batch] for batch in places]
        key = f"{frames} {variant.config.vision.model_dump_json()}"
        if key in self._encoded:
            yield from zip(names, self._encoded[key], strict=True)
            return
        encoded = []
        for some, visual in zip(names, plain_features(source, places, frames), strict=True):
            if self.model.vision.cacheable:
                yield some, visual
                continue
            pixels = self.model.processor.normalise(visual.to(self.model.device))
            encoded.append(self.model.encode(pixels).to(torch.float16).cpu())
            yield some, encoded[-1]
        if encoded:
            self._encoded[key] = encoded


@torch.inference_mode()
def caption_all(looks: Looks, variant: Variant, num_beams: int, title: str) -> dict[str, str]:
    """The captions of all items by a variant.

    Args:
        looks: at what.
        variant: how.
        num_beams: of the search.
        title: for progress.
    """
    captions: dict[str, str] = {}
    options = asdict(DecodingOptions(num_beams=num_beams))
    with looks.shaper.shaped(variant) as model:
        total = len(looks.source(variant))
        for names, features in looks.batches(variant):
            torch.manual_seed(len(captions))  # of tokens dropped at random
            soft_prompts, tags = model.look(features)
            output = model.generate_from(soft_prompts, tags=tags, **options)
            captions |= dict(zip(names, output.texts, strict=True))
            looks.report(title, len(captions), total, "clips")
    return captions
