"""The training loop: one stage (arXiv 2310.03291, section 3.1), with an optional phase before it.

Every step is a function of (seed, step), so a resumed run equals one that never stopped, and two processes equal one
with twice the accumulation. The frozen work (vision features) is done once where the tower allows it; captions of an
item share one prefix; logits exist at caption positions only.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evlgen.data.batches import AheadSource, BatchMaker, CaptionSource, TrainingSource
from evlgen.data.findings import SHOWN
from evlgen.errors import EvlgenError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.connectors import QFormer
from evlgen.modeling.hardware import machine_facts, memory_bytes
from evlgen.modeling.pretrained import read_tensors
from evlgen.modeling.temporal_attention import gates
from evlgen.recipes.schema import Recipe
from evlgen.training.callbacks import Callbacks, StoppedError, interruptible_layers
from evlgen.training.checkpoints import STATE_FILE, replace_folder, save_state
from evlgen.training.guards import CaptionGuard, LossGuard, SampleWatch
from evlgen.training.objectives import REPRESENTATION_LOSSES, RepresentationObjective, VocabularyObjective
from evlgen.training.optimizer import Update, choose_trained
from evlgen.training.processes import Processes, choose_sharding, only_accumulating, spread, whole
from evlgen.training.run_log import RunLog, Trackers
from evlgen.training.self_critical import SelfCritical
from evlgen.training.steps import PrefetchedSteps, StepPlan, Steps
from evlgen.training.task import CaptionTask
from evlgen.training.validation import Validator
from evlgen.weights import fetch
from evlgen.weights.named_models import WEIGHTS_FILE

LOSSES = ("loss", "vocabulary_loss", "scst_loss", *(f"{name}_loss" for name in REPRESENTATION_LOSSES))
"""Keys of a log record whose sum is the loss of a step, but for weights."""


@dataclass
class Trainer:
    """One run, as one of its processes sees it.

    Args:
        recipe: what to do.
        model: with its frozen parts loaded, on the device.
        train: sources to learn from.
        validation: sources to choose by.
        folder: where log and checkpoints go.
        precision: of matrix products of the trained part; parameters stay float32.
        processes: who takes part.
        watch: who is told, and who is asked whether to go on.
    """

    recipe: Recipe
    model: EVLGenForConditionalGeneration
    train: list[TrainingSource]
    validation: list[CaptionSource]
    folder: Path
    precision: torch.dtype
    processes: Processes
    watch: Callbacks

    def __post_init__(self) -> None:
        recipe, model, processes = self.recipe, self.model, self.processes
        captioned = [
            source for source in self.train if isinstance(source, CaptionSource)
        ]  # objectives need all there is
        vocabulary: VocabularyObjective | None = None
        if recipe.vocabulary.steps or recipe.vocabulary.weight:
            items = [item for source in captioned for item in source.items]
            vocabulary = VocabularyObjective(model.language, items, recipe.vocabulary.min_count).to(processes.device)
        batches = BatchMaker(
            self.train, min_frames=recipe.data.min_frames, max_frames=recipe.data.max_frames, seed=recipe.train.seed
        )
        self.steps = Steps(recipe, batches, vocabulary, processes.rank, processes.count)
        self.scst = SelfCritical(recipe.scst, captioned) if recipe.scst.samples else None
        self.task = CaptionTask(
            model,
            vocabulary,
            self.precision,
            self.scst,
            recipe.train.label_smoothing,
            self._representation(),
        )
        self.task.prepare(recipe.train)
        choose_trained(self.task, learned_prompt=recipe.model.language.learned_prompt)
        if self.scst is not None:
            self.scst.remember(self.task)
        sharding = choose_sharding(recipe.train.sharding, processes.count, self.precision)
        phase, language = recipe.vocabulary, recipe.model.language
        # it leaves prompts and adapters alone, and without a weight its own parameters rest later
        unused = phase.steps > 0 and (language.learned_prompt or language.lora is not None or phase.weight == 0)
        unused = unused or recipe.representation.steps > 0
        self.module: nn.Module = spread(
            self.task, processes, sharding, cached=model.vision.cacheable, some_unused=unused
        )
        self.update = Update(self.task, recipe)
        self.validator = Validator(
            self.validation,
            recipe.validation,
            model.config.temporal.frames,
            processes,
            shared=sharding == "fsdp",
            stop=self.watch.interrupt,
            progress=self.watch.progress,
        )
        self.log = RunLog(self.folder)
        self.trackers = Trackers(recipe, self.folder) if processes.main else None
        self.step, self.best, self.seconds_before, self.stopped = 0, -math.inf, 0.0, False
        self.due = True  # a validation: before the first step, and where one was given up
        self.guard = self._new_guard()
        self.caption_guard, self.samples = CaptionGuard(recipe.scst), SampleWatch(recipe.scst.samples)
        self.ended, self.best_report = "", dict[str, Any]()  # why self-critical training ended early, and on what
        self.started = self.saved = self.timed = time.monotonic()
        self.items = self.captions = self.timed_steps = 0  # since the last log line
        self.facts = {**machine_facts(processes.device), "processes": processes.count, "sharding": sharding}
        self.facts |= {"precision": str(self.precision).removeprefix("torch."), "seed": recipe.train.seed}

    def _representation(self) -> RepresentationObjective | None:
        config, connector = self.recipe.representation, self.model.connector
        if not config.steps:
            return None
        assert isinstance(connector, QFormer), "the recipe is checked"
        assert config.tokenizer is not None, "the recipe is checked"
        source = getattr(self.recipe.model.connector, "source", None)
        bert = None if source is None else read_tensors(fetch(source, report=self.watch.progress))
        tokenizer = fetch(config.tokenizer, report=self.watch.progress)
        return RepresentationObjective(connector, config, tokenizer, bert).to(self.processes.device)

    def _new_guard(self) -> LossGuard:
        factor = 0.0 if self.scst is not None else self.recipe.train.explode_factor  # its loss has no size of its own
        return LossGuard(factor, scaled=self.precision == torch.float16)

    def run(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop; returns the last validation report.

        Self-critical training also ends when its captions get worse, at the best checkpoint and with its report.

        Raises:
            EvlgenError: the loss is not finite or has exploded, or a checkpoint cannot be written.
        """
        self.task.learn()
        self.processes.on_main(lambda: self.log.start(self.facts, self.step, validation_due=self.due))
        last_report: dict[str, Any] = {}
        every, total = self.recipe.validation.every_steps, self.steps.total
        with contextlib.ExitStack() as stack:
            if self.scst is not None:
                stack.callback(self.scst.close)
            if self.processes.count == 1:
                stack.enter_context(interruptible_layers(self.model, self.watch.interrupt))
            ahead = stack.enter_context(PrefetchedSteps(self.steps, self.step))
            try:
                if self.due:  # what it starts from is what it must not fall behind
                    self.watch.say(f"validating at step {self.step}, by {self.recipe.validation.metric}")
                    last_report = self._validate()
                self._say_what_comes(total)
                while self.step < total and not self.ended and not self.stopped:
                    record = self._step(*ahead.take(self.step))
                    self.step += 1
                    for text in self.samples.check(record) if self.scst is not None else ():
                        self._warn(text)
                    if self.step % self.recipe.train.log_every == 0:
                        self._log(self._rated(record))
                        self._tell_of_broken_items()
                    if self.steps.captioning(self.step - 1) and (self.step % every == 0 or self.step == total):
                        self.due = True
                        last_report = self._validate()
                    due = time.monotonic() - self.saved > self.recipe.train.checkpoint_seconds
                    asked = self.watch.stop() or self.watch.interrupt()
                    told = self.processes.sums({"stop": float(asked), "due": float(due and self.processes.main)})
                    if told["due"] and self.guard.calm:
                        self.save_last()
                    self.stopped = bool(told["stop"])
            except StoppedError:
                self.stopped = True
        self.save_last()
        if self.trackers is not None:
            self.trackers.close()
        return self.best_report if self.ended else last_report

    def _say_what_comes(self, total: int) -> None:
        """The first step takes longest, and a line comes every so many steps: nobody should wonder until then."""
        self.timed = time.monotonic()
        if self.step < total and not self.ended:
            every = self.recipe.train.log_every
            self.watch.say(f"step {self.step + 1} of {total} begins; a line follows every {every} steps")

    def _step(self, plan: StepPlan, batches: list[Any]) -> dict[str, Any]:
        if plan.step == self.recipe.first_phase.steps:
            self.guard = self._new_guard()  # another loss, of another size
        self.update.start(plan.rate)
        sums: dict[str, Tensor] = {}
        for k, batch in enumerate(batches):
            with only_accumulating(self.module, k + 1 < len(batches)):
                out = self.module(batch)
                self.update.backward(
                    plan.loss(out) * self.processes.count
                )  # the exchange of gradients takes their mean
            for name, value in out.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        norm = self.update.clip()
        total = self.processes.sums({name: value.item() for name, value in sums.items()})
        record: dict[str, Any] = {"step": plan.step, "lr": plan.rate}
        if plan.tokens:
            record |= {"loss": total["captions"] / plan.tokens, "tokens": plan.tokens}
        if plan.words_weight:
            figures = {"vocabulary_loss": total["words"], "precision_at_5": total["precision"]}
            record |= {name: value / plan.items for name, value in figures.items()}
        if plan.representation:
            record |= {f"{name}_loss": total[name] / plan.items for name in REPRESENTATION_LOSSES}
        if plan.samples:
            assert self.scst is not None
            record |= self.scst.figures(total)
        record["gradient_norm"] = norm
        wrong = self.guard.check(sum(record.get(k, 0.0) for k in LOSSES), norm)
        if wrong:
            last = self.folder / "last"
            kept = f"; the last good checkpoint is {last}" if last.exists() else ""
            raise EvlgenError(
                f"{wrong} at step {self.step}{kept}",
                "lower optimizer.learning_rate, then " + ("--resume" if kept else "start again"),
            )
        self.update.finish(plan.step)
        self.timed_steps += 1
        self.items, self.captions = self.items + plan.items, self.captions + plan.captions + plan.samples
        return record

    def _tell_of_broken_items(self) -> None:
        slow = [(source.name, source.cache) for source in self.train if isinstance(source.cache, AheadSource)]
        if not slow:
            return  # the same in every process
        found = self.processes.gather([(name, broken) for name, cache in slow for broken in cache.news()])
        if found:
            first = "; ".join(f"{name}: {b.name}: {b.message}" for name, b in found[:SHOWN])
            more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            self._warn(f"broken items, from now on replaced by others of their source: {len(found)} ({first}{more})")

    def _warn(self, text: str) -> None:
        self._log({"step": self.step, "warning": text})

    def _rated(self, record: dict[str, Any]) -> dict[str, Any]:
        """With rates since the last line, time left, memory and gates."""
        now = time.monotonic()
        elapsed = max(now - self.timed, 1e-9)
        record |= {"items_per_second": round(self.items / elapsed, 3)}
        if self.captions:
            record["captions_per_second"] = round(self.captions / elapsed, 3)
        per_step = elapsed / self.timed_steps  # after --resume the first line is of fewer steps than log_every
        record["seconds_left"] = round(per_step * (self.steps.total - self.step), 1)
        self.timed, self.items, self.captions, self.timed_steps = now, 0, 0, 0
        alphas = [whole(alpha).item() for alpha in gates(self.model)]
        return {**record, **memory_bytes(self.processes.device), **({"gates": alphas} if alphas else {})}

    def _validate(self) -> dict[str, Any]:
        """Validate and keep what is best; StoppedError leaves the validation due."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            if self.update.average is not None:
                stack.enter_context(self.update.average.in_place_of(dict(self.update.named)))
            report = self.validator.run(self.module, self.task, f"validation at step {self.step}")
        self.due = False
        score = self.validator.score(report)
        self._log({"step": self.step, "validation": report, "score": score, "metric": self.recipe.validation.metric})
        self.task.learn()
        wrong = self.caption_guard.check(report) if self.scst is not None else ""
        if score > self.best and not self.caption_guard.state.failed:
            self.best, self.best_report = score, report
            trained = self.update.trained(averaged=True)
            self.processes.on_main(
                lambda: replace_folder(self.folder / "best", lambda f: self.model.save_pretrained(f, tensors=trained))
            )
            self.save_last()  # `best` and the score in `last` must not part
        if wrong:
            self._return_to_best(wrong)
        self.timed += time.monotonic() - began  # rates are those of training
        return report

    def _return_to_best(self, wrong: str) -> None:
        self.ended = wrong
        self.update.take(load_file(self.folder / "best" / WEIGHTS_FILE))
        self._warn(f"{wrong}: the run ends here and returns to its best checkpoint")

    def _log(self, record: dict[str, Any]) -> None:
        record = {**record, "of": self.steps.total, "seconds": round(self._seconds(), 1)}
        self.processes.on_main(lambda: self.log.write(record))
        if self.processes.main:
            self.watch.report(record)
        if self.trackers is not None:
            self.trackers.log(record)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def save_last(self) -> None:
        """Write a checkpoint to resume from."""
        tensors, facts = self.update.state()
        facts |= {"step": self.step, "best": self.best, "seconds": self._seconds()}
        facts |= {"validation_due": self.due, "guard": self.guard.state.model_dump()}
        if self.scst is not None:
            facts |= {"caption_guard": self.caption_guard.state.model_dump(), "watch": self.samples.state.model_dump()}
            facts |= {"ended": self.ended, "best_report": self.best_report}
        trained = self.update.trained(averaged=False)

        def fill(folder: Path) -> None:
            self.model.save_pretrained(folder, tensors=trained)
            save_state(folder, tensors, facts)

        self.processes.on_main(lambda: replace_folder(self.folder / "last", fill))
        self.saved = time.monotonic()

    def resume(self) -> int:
        """Go back to the last checkpoint of the folder; returns its step.

        Raises:
            EvlgenError: it is damaged or of another model.
        """
        facts = self.update.load(self.folder / "last", self.steps.total)
        self.step, self.best, self.seconds_before = facts.step, facts.best, facts.seconds
        self.due = facts.validation_due
        if facts.guard is not None:
            self.guard.state = facts.guard
        if self.scst is not None and facts.caption_guard is not None and facts.watch is not None:
            self.caption_guard.state = facts.caption_guard
            self.samples.state = facts.watch
            self.ended, self.best_report = facts.ended, facts.best_report
        return self.step


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed from `folder`."""
    return (folder / "last" / STATE_FILE).is_file()
