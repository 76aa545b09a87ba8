"""The data section of a recipe: what is trained on and what is validated on."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field, model_validator

from evlgen.sections import Strict


class DataSource(Strict):
    """Captioned pictures or videos: a file of captions, and the media that it names; or shards that hold both.

    Captions are JSONL rows or a CSV or TSV with a header: `file` (or video, image, path), `caption` (or captions), and
    perhaps `split`; rows of the same file gather. MSR-VTT's videodatainfo, COCO and NoCaps annotations, Karpathy's
    JSON, VATEX, and the texts and tables of MSVD and Flickr30k are read as they are published. Or `dataset`, `root` and
    `split` instead: the files of a published set are found by themselves. Shards are tar files as img2dataset writes
    them (WebDataset): KEY.jpg with KEY.txt, or with KEY.json that has a `caption` (and perhaps a `split`).
    """

    captions: str = Field(
        "",
        description="path of the JSONL, CSV, TSV, JSON or text; ${VARIABLES} are expanded. This, dataset, or shards",
    )
    shards: str = Field(
        "",
        description="tar files of captioned pictures, streamed: a path or a URL that fsspec knows (s3://, gs://, "
        "https://, hf://), with ranges {00000..11499}, lists {a,b} and, where folders can be listed, * and ?",
    )
    shard_window: int = Field(
        16,
        gt=0,
        le=1_000_000,
        description="so many shards, drawn anew each epoch, have their samples shuffled together",
    )
    media: str = Field(
        "",
        description="folder, .tar or .zip that holds the files named there; if not given, the captions' own folder, or "
        "where `dataset` has them",
    )
    dataset: str | None = Field(
        None, description="instead of captions: a published data set by its name (evlgen data ls); needs root and split"
    )
    root: str | None = Field(
        None, description="the folder that holds the files of `dataset`; ${VARIABLES} are expanded"
    )
    split: str | None = Field(
        None, description="only rows with this split, or with one of several (train+restval); null: all rows"
    )
    weight: float = Field(
        1.0, gt=0, description="how often an item is drawn, relative to items of other sources; grows with their number"
    )
    ratio: float | None = Field(
        None,
        gt=0,
        description="how often the source is drawn relative to the ratios of the others, however many items each has "
        "(15 : 4 : 1); in every source or in none, and instead of weight",
    )
    views: int = Field(
        1,
        gt=0,
        le=10_000,
        description="variants per frame: the plain one, then random crops, every second one mirrored",
    )
    limit: int | None = Field(None, gt=0, description="only the first so many items")
    features: str | None = Field(
        None,
        description="folder of the cached features; null: in the cache directory. Features that another tower made "
        "there are refused",
    )

    @model_validator(mode="before")
    @classmethod
    def _beside_the_captions(cls, values: Any) -> Any:
        captions = values.get("captions") if isinstance(values, dict) else None
        if captions and isinstance(captions, str) and not values.get("media"):
            return {**values, "media": str(PurePath(captions).parent)}
        return values

    @model_validator(mode="after")
    def _check(self) -> DataSource:
        if sum((bool(self.captions), bool(self.shards), self.dataset is not None)) != 1:
            given = [name for name in ("captions", "dataset", "shards") if getattr(self, name)]
            raise ValueError(
                f"{' and '.join(given)} exclude each other"
                if given
                else "captions is missing (or dataset, root and split of a published set, or shards)"
            )
        if self.dataset is None and self.root is not None:
            raise ValueError("root is for dataset: name one (evlgen data ls)")
        if self.dataset is not None and (self.root is None or self.split is None):
            raise ValueError(f"dataset {self.dataset} needs {'root' if self.root is None else 'split'} as well")
        if self.shards and (self.media or self.features is not None):
            key = "media" if self.media else "features"
            raise ValueError(f"{key} is for captions; shards hold their pictures, and their features are not cached")
        if self.ratio is not None and self.weight != 1:
            raise ValueError("weight and ratio exclude each other: weight is per item, ratio per source")
        return self


class DataConfig(Strict):
    """What is trained on and what is validated on."""

    train: list[DataSource] = Field(min_length=1)
    validation: list[DataSource] = Field(min_length=1)
    min_frames: int = Field(
        1, gt=0, le=10_000, description="fewest frames of a video in an optimizer step; one count a step"
    )
    max_frames: int = Field(
        4, gt=0, le=10_000, description="most of them; so many are chosen of a video, evenly spread"
    )
    choose_from: int | None = Field(
        None,
        gt=0,
        le=10_000,
        description="frames of a video that are cached or decoded, evenly spread: a step takes one at random in each "
        "of as many spans of them as it has frames; null: max_frames, of which steps of max_frames take all",
    )
    captions_per_item: int = Field(1, gt=0, le=10_000, description="captions of an item in one packed sequence")
    visual: Literal["auto", "features", "pixels"] = Field(
        "auto",
        description="features: what the frozen tower gives, computed once and kept on disk; pixels: frames are decoded "
        "and encoded in every step; auto: features, or pixels where temporal modules are trained inside the tower",
    )
    consensus: float = Field(
        0.0,
        ge=0,
        description="captions are drawn in proportion to this power of their CIDEr-D against the other captions of "
        "their item (arXiv 1712.09532 weights with power 1); 0: all alike",
    )
    items_per_step: int = Field(32, gt=0, le=100_000, description="pictures or videos per optimizer step")
    lower_case: bool = Field(False, description="lower-case captions and drop their final full stop")
    max_broken_share: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="share of a source's items (0 to 1) that may be missing, undecodable or without captions: so many "
        "are left out and listed, more stop the run; likewise of its shards, those that are missing or cut off",
    )
    shard_cache_gb: float = Field(
        50.0, gt=0, description="disk for fetched remote shards, in the cache directory; the least recently used go"
    )

    @property
    def frames_kept(self) -> int:
        """Frames of a video that are cached or decoded."""
        return self.max_frames if self.choose_from is None else self.choose_from

    @property
    def has_shards(self) -> bool:
        """Whether some of the training data are streamed from shards."""
        return any(source.shards for source in self.train)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} is above max_frames {self.max_frames}")
        if self.choose_from is not None and self.choose_from < self.max_frames:
            raise ValueError(f"choose_from {self.choose_from} is below max_frames {self.max_frames}")
        without = [n for n, source in enumerate(self.train) if source.ratio is None]
        if 0 < len(without) < len(self.train):
            raise ValueError(f"train.{without[0]}.ratio is missing: give every source of train a ratio, or none")
        if any(source.ratio is not None for source in self.validation):
            raise ValueError("validation: ratio is for sources of train; validation sources are never mixed")
        if any(source.shards for source in self.validation):
            raise ValueError("validation: shards are for sources of train; validate on captions and media")
        return self
