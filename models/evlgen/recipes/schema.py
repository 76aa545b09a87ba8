"""What a recipe may say. A recipe is a whole training workflow in one YAML file; its header comment is its manual.

Unknown keys are errors, and every mistake is reported at once (see `evlgen.recipes.loading`). No torch here.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field, model_validator

from evlgen.configuration import EVLGenConfig, Strict


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
        16, gt=0, description="so many shards, drawn anew each epoch, have their samples shuffled together"
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
        1, gt=0, description="variants per frame: the plain one, then random crops, every second one mirrored"
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
    min_frames: int = Field(1, gt=0, description="fewest frames of a video in an optimizer step; one count a step")
    max_frames: int = Field(4, gt=0, description="most of them; so many are chosen of a video, evenly spread")
    captions_per_item: int = Field(1, gt=0, description="captions of an item in one packed sequence")
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
    items_per_step: int = Field(32, gt=0, description="pictures or videos per optimizer step")
    lower_case: bool = Field(False, description="lower-case captions and drop their final full stop")
    max_broken_share: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="share of a source's items (0 to 1) that may be missing, undecodable or without captions: so many "
        "are left out and listed, more stop the run",
    )
    shard_cache_gb: float = Field(
        50.0, gt=0, description="disk for fetched remote shards, in the cache directory; the least recently used go"
    )

    @property
    def has_shards(self) -> bool:
        """Whether some of the training data are streamed from shards."""
        return any(source.shards for source in self.train)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} is above max_frames {self.max_frames}")
        without = [n for n, source in enumerate(self.train) if source.ratio is None]
        if 0 < len(without) < len(self.train):
            raise ValueError(f"train.{without[0]}.ratio is missing: give every source of train a ratio, or none")
        if any(source.ratio is not None for source in self.validation):
            raise ValueError("validation: ratio is for sources of train; validation sources are never mixed")
        if any(source.shards for source in self.validation):
            raise ValueError("validation: shards are for sources of train; validate on captions and media")
        return self


class OptimizerConfig(Strict):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(1e-4, gt=0)
    floor: float = Field(1e-5, ge=0, description="learning rate at the last step")
    start: float = Field(1e-6, ge=0, description="learning rate at step 0")
    warmup_steps: int = Field(5000, ge=0, description="optimizer steps of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="on matrices; never on biases, norms and embeddings")
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    prompt_multiplier: float = Field(1.0, gt=0, description="factor on the learning rate of learned prompts")
    gate_multiplier: float = Field(
        1.0, gt=0, description="factor on the learning rate of the temporal gates, single numbers that start at 0"
    )
    lora_multiplier: float = Field(
        1.0, gt=0, description="factor on the learning rate of the language model's adapters (model.language.lora)"
    )


class VocabularyConfig(Strict):
    """A departure for small data: pull soft prompts towards the embeddings of the caption's content words.

    The first `steps` train this loss alone, without running the language model; afterwards it stays with `weight`
    beside the caption loss. Zero steps and zero weight are the paper's single loss.
    """

    steps: int = Field(0, ge=0, description="optimizer steps on this loss alone")
    items_per_step: int = Field(96, gt=0)
    learning_rate: float = Field(1e-3, gt=0, description="peak during these steps")
    weight: float = Field(0.0, ge=0, description="weight beside the caption loss afterwards")
    min_count: int = Field(10, gt=0, description="a content token counts if so many training items have it")


class RewardConfig(Strict):
    """Weights of what a sampled caption is rewarded for, against the references of its item."""

    cider: float = Field(
        1.0,
        ge=0,
        description="of CIDEr-D with the document frequencies of the training references; papers print 100 "
        "for a value of 1",
    )
    bleu4: float = Field(0.0, ge=0, description="of BLEU-4 of the single caption, from 0 to 1")

    @model_validator(mode="after")
    def _check(self) -> RewardConfig:
        if not self.cider and not self.bleu4:
            raise ValueError("no reward has a weight above 0")
        return self


class ScstConfig(Strict):
    """Self-critical sequence training (arXiv 1612.00563): learn from rewards of sampled captions. Off without samples.

    Dropout is off then: log-probabilities must be those of the distribution that was sampled.
    """

    samples: int = Field(0, ge=0, description="captions sampled for each item of a step; 0: no self-critical training")
    sampler: Literal["multinomial", "beam"] = Field(
        "multinomial",
        description="multinomial: independent samples; beam: the `samples` beams of a beam search (arXiv 2502.13363)",
    )
    baseline: Literal["greedy", "mean", "beam-mean", "none"] = Field(
        "greedy",
        description="what is subtracted from a reward: that of the greedy caption, the mean of the item's other "
        "samples, the mean of all its captions (arXiv 2502.13363), or nothing",
    )
    rewards: RewardConfig = RewardConfig()
    temperature: float = Field(1.0, gt=0, description="of the sampled distribution")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampled distribution; 1: all tokens")
    min_new_tokens: int = Field(0, ge=0, description="shortest sample in tokens, end token not counted")
    max_new_tokens: int = Field(24, gt=0, description="longest sample in tokens, end token included")
    length_penalty: float = Field(
        1.0, description="exponent of the length that scores of beams are divided by; of sampler beam"
    )
    length_normalised: bool = Field(
        False, description="divide the log-probability of a caption by its tokens (arXiv 2502.13363); biased"
    )
    normalise_advantages: bool = Field(
        False, description="divide advantages by the standard deviation of the item's rewards; biased"
    )
    kl_weight: float = Field(
        0.0, ge=0, description="reward lost per nat of divergence from the starting model; costs another pass"
    )
    caption_weight: float = Field(
        0.0, ge=0, lt=1, description="share of the caption loss in the loss; 0: rewards alone"
    )
    cider_drop: float = Field(
        3.0, gt=0, description="points of validation CIDEr below its best that count as a failed validation"
    )
    bad_endings_rise: float = Field(
        0.05,
        gt=0,
        description="share of captions with a bad ending above that of the start that counts as a failed one",
    )
    patience: int = Field(
        2, gt=0, description="failed validations in a row after which the run stops and returns to its best checkpoint"
    )

    @model_validator(mode="after")
    def _check(self) -> ScstConfig:
        if not self.samples:
            return self
        wrong = []
        for needs, name in (
            (self.sampler == "beam", "scst.sampler beam"),
            (self.baseline in ("mean", "beam-mean"), f"scst.baseline {self.baseline}"),
            (self.normalise_advantages, "scst.normalise_advantages"),
        ):
            if needs and self.samples < 2:
                wrong.append(f"{name} needs scst.samples of 2 or more, it is {self.samples}")
        if self.min_new_tokens >= self.max_new_tokens:
            wrong.append(
                f"scst.min_new_tokens {self.min_new_tokens} leaves no room below max_new_tokens {self.max_new_tokens}"
            )
        if self.sampler == "beam" and (self.temperature != 1 or self.top_p != 1):
            wrong.append("scst.sampler beam searches the model's own distribution: leave temperature and top_p at 1")
        if self.kl_weight and (self.sampler == "beam" or self.top_p < 1):
            wrong.append("scst.kl_weight needs samples from all tokens: sampler multinomial and top_p 1")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class ValidationConfig(Strict):
    """How a run is watched, and by what its best checkpoint is chosen."""

    every_steps: int = Field(500, gt=0, description="optimizer steps between validations")
    loss_items: int = Field(200, gt=0, description="items for loss and for the matched-against-shuffled gap")
    caption_items: int = Field(200, ge=0, description="items captioned and scored")
    max_new_tokens: int = Field(24, gt=0, description="longest caption in tokens, end included")
    beams: int = Field(1, gt=0, description="beams of the search; 1 is greedy")
    metric: Literal["cider+bleu-4", "cider", "bleu-4", "rouge-l", "loss", "gap"] = Field(
        "cider+bleu-4", description="what the best checkpoint is best by, averaged over the sources; + adds points"
    )

    @model_validator(mode="after")
    def _check(self) -> ValidationConfig:
        if self.caption_items == 0 and self.metric not in ("loss", "gap"):
            raise ValueError(f"validation.metric {self.metric} needs validation.caption_items above 0, or choose loss")
        return self


class TrainConfig(Strict):
    """The loop."""

    steps: int = Field(gt=0, description="optimizer steps of the caption loss")
    seed: int = Field(0, ge=0, description="of data order, views, frames, dropout and new weights")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="of the frozen parts and of matrix products; auto: bfloat16 where the machine has it fast, "
        "float16 on older GPUs; trained parameters stay float32",
    )
    accumulation_steps: int = Field(
        1,
        gt=0,
        description="micro-batches that each process makes of its part of an optimizer step; same result, less memory",
    )
    checkpoint_language: bool = Field(
        False,
        description="recompute the frozen language model's layers in the backward pass: less memory, same gradients",
    )
    checkpoint_vision: bool = Field(
        False,
        description="recompute the vision tower's blocks in the backward pass, where modules are trained inside them: "
        "less memory, same gradients",
    )
    sharding: Literal["auto", "none", "ddp", "fsdp"] = Field(
        "auto",
        description="of several processes: ddp holds a copy in each, fsdp (FSDP2) shards all parameters; auto: ddp; "
        "none refuses several",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="per optimizer step, of an exponential moving average of the trained parameters, which is then "
        "what is validated and kept as best; 0: none",
    )
    explode_factor: float = Field(
        3.0, ge=0, description="stop when the loss stays above so many times its running median; 0: never"
    )
    checkpoint_seconds: float = Field(300.0, gt=0, description="seconds between resumable checkpoints")
    log_every: int = Field(20, gt=0, description="optimizer steps between log lines")
    trackers: list[Literal["tensorboard", "wandb", "trackio"]] = Field(
        default_factory=list,
        description="where figures go besides the terminal and log.jsonl; each is an extra to install",
    )
    start_from: str | None = Field(
        None, description="checkpoint folder or packaged model to start from; ${VARIABLES} are expanded"
    )


class Recipe(Strict):
    """A recipe file."""

    name: str = Field(pattern=r"^[a-z0-9.-]+$")
    summary: str = Field(description="one line")
    model: EVLGenConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    scst: ScstConfig = ScstConfig()
    validation: ValidationConfig = ValidationConfig()
    train: TrainConfig

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.optimizer.floor > self.optimizer.learning_rate:
            raise ValueError("optimizer.floor is above optimizer.learning_rate")
        if self.optimizer.warmup_steps >= self.train.steps:
            raise ValueError("optimizer.warmup_steps must be fewer than train.steps")
        wrong = self._wrong_with_scst() if self.scst.samples else []
        if self.model.language.quantization != "none" and self.train.sharding == "fsdp":
            wrong.append("train.sharding fsdp cannot shard quantized weights: set it to auto or ddp")
        if self.data.has_shards:
            wrong += self._wrong_with_shards()
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_with_shards(self) -> list[str]:
        """What training on shards cannot be together with: what must know all captions before the first step."""
        wrong = []
        if self.scst.samples:
            wrong.append("scst needs all references at once: train it on captions and media, not on shards")
        if self.vocabulary.steps or self.vocabulary.weight:
            wrong.append("vocabulary counts words of all captions: set its steps and weight to 0 with shards")
        return wrong

    def _wrong_with_scst(self) -> list[str]:
        """What self-critical training cannot be together with."""
        wrong = []
        if self.train.start_from is None:
            wrong.append("scst needs train.start_from: samples of an untrained model are worth nothing")
        if self.vocabulary.steps:
            wrong.append("scst starts from a trained model: set vocabulary.steps to 0")
        if not self.validation.caption_items:
            wrong.append("scst is watched by captions: set validation.caption_items above 0")
        if self.train.sharding == "fsdp":
            wrong.append(
                "scst does not shard: captions of different lengths would wait for each other; set "
                "train.sharding to auto or ddp"
            )
        return wrong
