"""The memory of a run's process, part by part: counted where it can be, metered on fake tensors where it cannot.

Parameters, gradients and optimizer state are counted. What a forward and a backward pass hold beside them is metered
(metering.py) in the largest micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from evlgen.data.features import BATCH_ROWS, BATCH_ROWS_ON_A_GPU
from evlgen.data.visual import choose_visual
from evlgen.modeling.model import MOST_LENGTH_GROUPS
from evlgen.recipes.schema import Recipe
from evlgen.training.ahead import ASKED_AHEAD
from evlgen.training.metering import AllocationMeter, bytes_of
from evlgen.training.sharding import sharded_units
from evlgen.training.skeleton import CaptionData, Captions, largest_micro_batch
from evlgen.training.step import micro_batches_of_a_step
from evlgen.training.task import CaptionTask, MicroBatch
from evlgen.training.validation import BATCH_ITEMS, LOSS_CAPTIONS

MOMENTS = 2  # of AdamW


@dataclass(frozen=True)
class PhaseMemory:
    """Bytes of tensors that one process of a run holds at the peak of a phase; the parts add up to `total`.

    Attributes:
        frozen: parameters and buffers that are not trained.
        trained: parameters.
        optimizer: AdamW's moments.
        average: moving average of the trained parameters, and what self-critical training remembers of its start.
        gradients: of the trained parameters.
        gathered: fsdp: whole parameters of the layers that run, and gradients that are not handed out yet.
        batches: on a CPU, visual input of this step and of those made ahead, but for the micro-batch that is metered.
        activations: the rest: what is kept for the backward pass, and temporaries.
    """

    frozen: int
    trained: int
    optimizer: int = 0
    average: int = 0
    gradients: int = 0
    gathered: int = 0
    batches: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class ProcessMemory:
    """Memory of one process of a run.

    Attributes:
        sharding: none, ddp or fsdp.
        processes: of the run.
        items: of its largest micro-batch.
        phases: by name; "features" is there only until the features are cached, and never on pixels.
    """

    sharding: str
    processes: int
    items: int
    phases: dict[str, PhaseMemory]

    @property
    def peak(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=lambda name: self.phases[name].total)

    @property
    def total(self) -> int:
        """Of that phase."""
        return self.phases[self.peak].total


@dataclass(frozen=True)
class _Metered:
    """Bytes beyond parameters and optimizer state.

    Attributes:
        items: of a micro-batch.
        steps: peak of each kind of training step, gradients included.
        validation: peak of a pass.
        features: peak of a pass through the tower.
        visual: on a CPU, visual input of a micro-batch.
        batches: on a CPU, visual input of this step and of those made ahead, but for one micro-batch.
    """

    items: int
    steps: dict[str, int]
    validation: int
    features: int
    visual: int
    batches: int


class MemoryEstimator:
    """Counts and meters the parts of a task.

    Args:
        recipe: batch sizes, average, objectives.
        task: what is trained, on fake tensors.
        data: captions.
        fake: the mode of the task's tensors; not open, so that what is computed from captions alone is real.
        gpu: whether the run is on one.
    """

    def __init__(
        self, recipe: Recipe, task: CaptionTask, data: CaptionData, fake: FakeTensorMode, *, gpu: bool
    ) -> None:
        self.recipe, self.task, self.data, self.fake, self.gpu = recipe, task, data, fake, gpu
        self.cached = choose_visual(recipe) == "features"
        self.alone = task.model.vision.cacheable  # fsdp leaves such a tower alone
        self.known = [*task.parameters(), *task.buffers()]
        self.trained = [p for p in self.known if p.requires_grad]
        self.gradients = bytes_of(self.trained)  # of the parameters' own type, which is float32

    def process(self, sharding: str, processes: int) -> ProcessMemory:
        """The memory of one of `processes`."""
        recipe = self.recipe
        accumulating = recipe.train.accumulation_steps > 1
        # before the first backward pass ends there are no gradients, unless they add up or lie in ddp's buckets
        groups = 1 if sharding == "fsdp" else MOST_LENGTH_GROUPS
        metered = self._metered(micro_batches_of_a_step(recipe, processes), accumulating or processes > 1, groups)
        share = processes if sharding == "fsdp" else 1
        whole = self._never_sharded() if sharding == "fsdp" else 0
        frozen, trained = bytes_of(t for t in self.known if not t.requires_grad), bytes_of(self.trained)
        copies = int(recipe.train.ema_decay > 0) + int(recipe.scst.samples > 0 and recipe.scst.kl_weight > 0)
        state = {
            "frozen": whole + (frozen - whole) // share,
            "trained": trained // share,
            "optimizer": MOMENTS * self.gradients // share,
            "average": copies * self.gradients // share,
            "gradients": self.gradients // share,
        }
        gathered = self._gathered(accumulating) if sharding == "fsdp" else 0
        batches = metered.batches
        phases = {
            name: PhaseMemory(**state, gathered=gathered, batches=batches, activations=max(0, peak - self.gradients))
            for name, peak in metered.steps.items()
        }
        temporaries = self.gradients // share if self.gpu else 2 * max(bytes_of([p]) for p in self.trained) // share
        phases["update"] = PhaseMemory(**state, batches=batches + metered.visual, activations=temporaries)
        set_aside = self.gradients // share if recipe.train.ema_decay else 0
        phases["validation"] = PhaseMemory(
            **state, gathered=gathered, batches=batches + metered.visual, activations=metered.validation + set_aside
        )
        if self.cached:  # before anything is sharded or trained
            phases["features"] = PhaseMemory(frozen, trained, activations=metered.features)
        return ProcessMemory(sharding, processes, metered.items, phases)

    def _metered(self, parts: int, twice: bool, groups: int) -> _Metered:
        """What passes take.

        Args:
            parts: micro-batches of an optimizer step.
            twice: whether gradients are there when a micro-batch starts.
            groups: in how many the language model may run a batch of captions.
        """
        recipe = self.recipe
        self.task.model.most_length_groups = groups
        captions = largest_micro_batch(recipe, self.data, self.task.model.language.end_token_id, parts)
        steps: dict[str, int] = {}
        self.task.train(not recipe.scst.samples)
        if self.task.vocabulary is not None and recipe.vocabulary.steps:
            steps["vocabulary step"] = self._train(-(-recipe.vocabulary.items_per_step // parts), None, twice)
        steps["self-critical step" if recipe.scst.samples else "caption step"] = self._train(
            len(captions), captions, twice
        )
        self.task.eval()
        visual = 0 if self.gpu else bytes_of([self._visual(len(captions))])
        ahead = 1 if self.cached else ASKED_AHEAD
        batches = ((1 + ahead) * recipe.train.accumulation_steps - 1) * visual
        return _Metered(
            len(captions), steps, self._validate(captions), self._encode() if self.cached else 0, visual, batches
        )

    def _visual(self, items: int) -> Tensor:
        """What a micro-batch brings: features, or pixels as bytes."""
        vision, frames = self.task.model.vision, self.recipe.data.max_frames
        if self.cached:
            return self._empty(items, frames, vision.config.tokens, vision.feature_width, dtype=torch.float16)
        return self._empty(items, frames, 3, vision.config.image_size, vision.config.image_size, dtype=torch.uint8)

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        with self.fake:
            return torch.empty(shape, dtype=dtype)

    def _train(self, items: int, captions: Captions | None, twice: bool) -> int:
        """Bytes beyond parameters and optimizer state at the peak of a micro-batch, or of two, gradients included."""
        wanted = self.task.vocabulary if captions is None or self.recipe.vocabulary.weight else None
        with AllocationMeter(self.known) as meter:
            for _ in range(1 + twice):
                words = None if wanted is None else self._empty(items, len(wanted.content))
                batch = MicroBatch(self._visual(items), captions, words, seed=0)  # it lives as long as the step
                sums = self.task(batch)
                loss: Tensor = torch.stack([sums[name] for name in ("captions", "words") if name in sums]).sum()
                loss.backward()  # type: ignore[no-untyped-call]
                del sums, loss
        self.task.zero_grad(set_to_none=True)
        return int(meter.peak)  # torch's modes are not typed

    def _validate(self, captions: Captions) -> int:
        shown = [one[:LOSS_CAPTIONS] for one in captions]
        shown = (shown * BATCH_ITEMS)[:BATCH_ITEMS]
        with AllocationMeter(self.known) as meter, torch.no_grad():
            self.task.model.caption_loss(self.task.soft_prompts(self._visual(BATCH_ITEMS)), shown)
        return int(meter.peak)

    def _encode(self) -> int:
        side = self.recipe.model.vision.image_size
        with AllocationMeter(self.known) as meter, torch.inference_mode():
            self.task.model.encode(self._empty(BATCH_ROWS_ON_A_GPU if self.gpu else BATCH_ROWS, 1, 3, side, side))
        return int(meter.peak)

    def _never_sharded(self) -> int:
        """Of fsdp: buffers, and a tower without trained modules inside, which is left alone."""
        return bytes_of([*self.task.buffers(), *(self.task.model.vision.trunk.parameters() if self.alone else ())])

    def _gathered(self, accumulating: bool) -> int:
        """Of fsdp: the root's parameters, and three layers: one that runs, one that comes, one that is copied out.

        Gradients stay whole while they add up; otherwise the root's do until the backward pass ends, and a layer's
        are there twice while they are handed out.
        """
        units = sharded_units(self.task, self.alone)
        inside = {id(p) for unit in units for p in unit.parameters()}
        if self.alone:
            inside |= {id(p) for p in self.task.model.vision.trunk.parameters()}
        root = [p for p in self.task.parameters() if id(p) not in inside]
        gathered = bytes_of(root) + 3 * max(bytes_of(unit.parameters()) for unit in units)
        if accumulating:
            return gathered + self.gradients
        return gathered + _trained_bytes(root) + 2 * max(_trained_bytes(unit.parameters()) for unit in units)


def _trained_bytes(parameters: Iterable[nn.Parameter]) -> int:
    return bytes_of(p for p in parameters if p.requires_grad)
