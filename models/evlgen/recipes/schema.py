"""What a recipe may say. A recipe is a whole training workflow in one YAML file; its header comment is its manual.

Unknown keys are errors, and every mistake is reported at once (see `evlgen.recipes.loading`). No torch here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from evlgen.configuration import EVLGenConfig
from evlgen.decoding_options import BOUNDS
from evlgen.recipes.data_schema import DataConfig
from evlgen.sections import Strict

KEPT = "kept"
"""Key of pydantic's context: the recipe is that of a run that is there already, and may have what is refused by now."""


_DECODING = {
    "num_beams": "beams of the search; 1 is greedy",
    "min_new_tokens": "shortest caption in tokens, end token not counted",
    "max_new_tokens": "longest caption in tokens, end token included",
    "length_penalty": "exponent of the length that scores of beams are divided by",
    "repetition_penalty": "what tokens that a caption holds already pay, as evlgen eval --repetition-penalty has it",
}


def decoding_key(option: str, default: Any, more: str = "") -> Any:
    """Return the field of a key that is an option of `DecodingOptions`, with its bounds and its meaning.

    Args:
        option: name of the option.
        default: its value where the recipe says nothing.
        more: stands behind the meaning.
    """
    least, most = BOUNDS[option]
    return Field(default, ge=least, le=most, description=_DECODING[option] + more)


def decoding_of(section: Strict) -> dict[str, Any]:
    """Return the options of `DecodingOptions` that a section has as keys; None where it leaves one open."""
    return {name: getattr(section, name) for name in _DECODING if name in type(section).model_fields}


class OptimizerConfig(Strict):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(1e-4, gt=0, description="peak, where the warm-up ends")
    min_lr: float = Field(1e-5, ge=0, description="learning rate at the last step")
    warmup_start_lr: float = Field(1e-6, ge=0, description="learning rate at step 0")
    warmup_steps: int = Field(5000, ge=0, description="optimizer steps of linear warm-up")
    weight_decay: float = Field(0.05, ge=0, description="on matrices; never on biases, norms and embeddings")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay of AdamW's two moments, per optimizer step")
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
    items_per_step: int = Field(96, gt=0, le=100_000, description="pictures or videos per optimizer step")
    learning_rate: float = Field(1e-3, gt=0, description="peak during these steps")
    weight: float = Field(0.0, ge=0, description="weight beside the caption loss afterwards")
    min_count: int = Field(10, gt=0, description="a content token counts if so many training items have it")

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises."""
        return min(50, self.steps // 10)


class RepresentationConfig(Strict):
    """BLIP-2's first stage (arXiv 2301.12597, section 3.2), before the caption loss: contrast, matching and captions
    inside a Q-Former, without running the language model. Zero steps leave it out.
    """

    steps: int = Field(0, ge=0, description="optimizer steps of this stage")
    items_per_step: int = Field(
        100, gt=1, le=100_000, description="pictures or videos per optimizer step; the others' texts are the negatives"
    )
    learning_rate: float = Field(1e-4, gt=0, description="peak during these steps; a tenth of it at their end")
    warmup_steps: int = Field(5000, ge=0, description="optimizer steps of linear warm-up")
    tokenizer: str | None = Field(None, description="tokenizer.json of the BERT that model.connector.source names")
    max_text_tokens: int = Field(32, gt=2, le=512, description="word pieces of a text, the two around it included")
    contrast_width: int = Field(256, gt=0, le=100_000, description="channels in which pictures and texts are compared")

    @property
    def warmup(self) -> int:
        """Steps in which the learning rate rises."""
        return min(self.warmup_steps, self.steps // 2)


class RewardConfig(Strict):
    """Weights of what a sampled caption is rewarded for, against the references of its item."""

    cider: float = Field(
        1.0,
        ge=0,
        description="of CIDEr-D with the document frequencies of the training references; papers print 100 "
        "for a value of 1",
    )
    bleu4: float = Field(0.0, ge=0, description="of BLEU-4 of the single caption, from 0 to 1")
    between: float = Field(
        0.0,
        ge=0,
        description="taken off, of CIDEr-D against the references of 32 other items of the source (CIDErBtw, arXiv "
        "2007.06877, which takes similar items): captions that fit anything lose",
    )

    @model_validator(mode="after")
    def _check(self) -> RewardConfig:
        if not self.cider and not self.bleu4:
            raise ValueError("no reward has a weight above 0")
        return self


class ScstConfig(Strict):
    """Self-critical sequence training (arXiv 1612.00563): learn from rewards of sampled captions. Off without samples.

    Dropout is off then: log-probabilities must be those of the distribution that was sampled.
    """

    samples: int = Field(
        0, ge=0, le=1_000, description="captions sampled for each item of a step; 0: no self-critical training"
    )
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
    min_new_tokens: int = decoding_key("min_new_tokens", 0)
    max_new_tokens: int = decoding_key("max_new_tokens", 24)
    length_penalty: float = decoding_key("length_penalty", 1.0, "; of sampler beam")
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
    min_new_tokens: int = decoding_key("min_new_tokens", 0)
    max_new_tokens: int = decoding_key("max_new_tokens", 24)
    length_penalty: float = decoding_key("length_penalty", 1.0)
    num_beams: int = decoding_key("num_beams", 1)
    repetition_penalty: float = decoding_key("repetition_penalty", 1.0)
    metric: Literal["cider+bleu-4", "cider", "bleu-4", "rouge-l", "loss", "gap"] = Field(
        "cider+bleu-4", description="what the best checkpoint is best by, averaged over the sources; + adds points"
    )

    @model_validator(mode="after")
    def _check(self) -> ValidationConfig:
        if self.caption_items == 0 and self.metric not in ("loss", "gap"):
            raise ValueError(f"validation.metric {self.metric} needs validation.caption_items above 0, or choose loss")
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError(
                f"validation.min_new_tokens {self.min_new_tokens} leaves no room below validation.max_new_tokens "
                f"{self.max_new_tokens}"
            )
        return self


class GradientCheckpointing(Strict):
    """What is recomputed in the backward pass: less memory, same gradients. `true` in the section's place is both."""

    language: bool = Field(False, description="the frozen language model's layers")
    vision: bool = Field(False, description="the vision tower's blocks, where temporal modules are trained inside them")

    @model_validator(mode="before")
    @classmethod
    def _both(cls, values: Any) -> Any:
        return {"language": values, "vision": values} if isinstance(values, bool) else values


class TrainConfig(Strict):
    """The loop."""

    steps: int = Field(gt=0, le=1_000_000_000, description="optimizer steps of the caption loss")
    seed: int = Field(0, ge=0, lt=2**63, description="of data order, views, frames, dropout and new weights")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="of the frozen parts and of matrix products; auto: bfloat16 where the machine has it fast, "
        "float16 on older GPUs; trained parameters stay float32",
    )
    accumulation_steps: int = Field(
        1,
        gt=0,
        le=100_000,
        description="micro-batches that each process makes of its part of an optimizer step; same result, less memory",
    )
    gradient_checkpointing: GradientCheckpointing = GradientCheckpointing()
    sharding: Literal["auto", "none", "ddp", "fsdp"] = Field(
        "auto",
        description="of several processes: ddp holds a copy in each, fsdp (FSDP2) shards all parameters; auto: ddp; "
        "none refuses several",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a caption token's target that all tokens have alike; 0: none"
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

    name: str = Field(pattern=r"^[a-z0-9.-]+$", description="of the run; its folder is runs/NAME")
    summary: str = Field(description="one line")
    model: EVLGenConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    representation: RepresentationConfig = RepresentationConfig()
    scst: ScstConfig = ScstConfig()
    validation: ValidationConfig = ValidationConfig()
    train: TrainConfig

    @property
    def first_phase(self) -> VocabularyConfig | RepresentationConfig:
        """What trains alone before the caption loss; nothing where its `steps` are 0."""
        return self.representation if self.representation.steps else self.vocabulary

    @model_validator(mode="after")
    def _check_r(self, info: ValidationInfo) -> Recipe:
        """A layer merges half of its tokens at most: more would be cut without a word."""
        wrong = self.model.too_large_r()
        if wrong and not (info.context or {}).get(KEPT):
            raise ValueError(f"model.connector.r {wrong}: lower r, or give a list, one number a layer")
        return self

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.optimizer.min_lr > self.optimizer.learning_rate:
            raise ValueError("optimizer.min_lr is above optimizer.learning_rate")
        if self.optimizer.warmup_steps >= self.train.steps:
            raise ValueError("optimizer.warmup_steps must be fewer than train.steps")
        wrong = self._wrong_with_scst() if self.scst.samples else []
        wrong += self._wrong_with_representation() if self.representation.steps else []
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

    def _wrong_with_representation(self) -> list[str]:
        """What BLIP-2's first stage cannot be together with, and what it needs."""
        wrong = []
        if self.model.connector.kind != "qformer":
            wrong.append(f"representation trains a Q-Former: model.connector.kind is {self.model.connector.kind}")
        if self.representation.tokenizer is None:
            wrong.append("representation needs representation.tokenizer, the tokenizer.json of a BERT")
        if self.vocabulary.steps:
            wrong.append("representation and vocabulary both come first: set the steps of one of them to 0")
        if self.model.temporal.fusion in ("concat", "mean-prompts"):
            wrong.append(
                "representation needs frames that meet in front of the connector: set model.temporal.fusion to mean "
                "or temporal"
            )
        if self.train.sharding == "fsdp":
            wrong.append("representation does not shard: set train.sharding to auto or ddp")
        return wrong

    def _wrong_with_scst(self) -> list[str]:
        """What self-critical training cannot be together with."""
        wrong = []
        if self.train.start_from is None:
            wrong.append("scst needs train.start_from: samples of an untrained model are worth nothing")
        if self.first_phase.steps:
            name = "representation" if self.representation.steps else "vocabulary"
            wrong.append(f"scst starts from a trained model: set {name}.steps to 0")
        if not self.validation.caption_items:
            wrong.append("scst is watched by captions: set validation.caption_items above 0")
        if self.train.sharding == "fsdp":
            wrong.append(
                "scst does not shard: captions of different lengths would wait for each other; set "
                "train.sharding to auto or ddp"
            )
        return wrong
