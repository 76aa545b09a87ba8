"""The training loop: one stage (arXiv 2310.03291, section 3.1), with an optional vocabulary phase for small data.

Every step is a function of (seed, step), so a resumed run equals one that never stopped. The frozen work (vision
features) is done once; captions of an item share one prefix; logits exist at caption positions only.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evlgen.data.batches import BatchMaker, CaptionSource
from evlgen.errors import EvlgenError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.recipes.schema import Recipe
from evlgen.training.checkpoints import STATE_FILE, load_state, replace_folder, save_state
from evlgen.training.objectives import VocabularyObjective
from evlgen.training.schedule import learning_rate, parameter_groups
from evlgen.training.validation import validate

Report = Callable[[dict[str, Any]], None]


@dataclass
class Trainer:
    """One run.

    Args:
        recipe: what to do.
        model: with its frozen parts loaded.
        train: sources to learn from.
        validation: sources to choose by.
        folder: where log and checkpoints go.
        precision: of matrix products of the trained part; parameters stay float32.
        report: is given every log record.
        stop: asked after every step; True saves and ends the run.
    """

    recipe: Recipe
    model: EVLGenForConditionalGeneration
    train: list[CaptionSource]
    validation: list[CaptionSource]
    folder: Path
    precision: torch.dtype
    report: Report = field(default=lambda _: None)
    stop: Callable[[], bool] = field(default=lambda: False)

    def __post_init__(self) -> None:
        recipe, model = self.recipe, self.model
        names = set(model.trainable_names())
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names and (recipe.model.language.learned_prompt or "prompt_" not in name))
        self.named: dict[str, nn.Parameter] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        all_items = [item for source in self.train for item in source.items]
        self.vocabulary: VocabularyObjective | None = None
        if recipe.vocabulary.steps or recipe.vocabulary.weight:
            self.vocabulary = VocabularyObjective(model.language, all_items, recipe.vocabulary.min_count)
            self.vocabulary.to(model.device)
            self.named |= {f"vocabulary.{n}": p for n, p in self.vocabulary.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.named, recipe.optimizer), lr=0.0, betas=recipe.optimizer.betas
        )
        self.batches = BatchMaker(self.train, max_frames=recipe.data.max_frames, seed=recipe.train.seed)
        self.total_steps = recipe.vocabulary.steps + recipe.train.steps
        self.step, self.best = 0, -math.inf
        self.started = self.saved = time.monotonic()
        self.seconds_before = 0.0

    def autocast(self) -> Any:
        """Matrix products of the trained part in the chosen precision."""
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.model.device.type, self.precision)

    def run(self) -> dict[str, Any]:
        """Train to the end, or until asked to stop; returns the last validation report.

        Raises:
            EvlgenError: the loss is not finite, or a checkpoint cannot be written.
        """
        self.model.train()
        if self.model.device.type == "cpu":
            self.model.language.use_attention("eager")
        last_report: dict[str, Any] = {}
        every = self.recipe.validation.every_steps
        while self.step < self.total_steps:
            record = self._step()
            self.step += 1
            if self.step % self.recipe.train.log_every == 0:
                self._log(record)
            captioning = self.step > self.recipe.vocabulary.steps
            if captioning and (self.step % every == 0 or self.step == self.total_steps):
                last_report = self._validate()
            if time.monotonic() - self.saved > self.recipe.train.checkpoint_seconds:
                self.save_last()
            if self.stop():
                break
        self.save_last()
        return last_report

    def _stream(self) -> tuple[int, int]:
        """Start and length of this step's batch in the item stream."""
        phase, data = self.recipe.vocabulary, self.recipe.data
        if self.step < phase.steps:
            return self.step * phase.items_per_step, phase.items_per_step
        start = phase.steps * phase.items_per_step + (self.step - phase.steps) * data.items_per_step
        return start, data.items_per_step

    def _rate(self) -> float:
        phase, optimizer = self.recipe.vocabulary, self.recipe.optimizer
        if self.step < phase.steps:
            return learning_rate(
                self.step, phase.steps, start=0.0, peak=phase.learning_rate,
                floor=phase.learning_rate / 10, warmup=min(50, phase.steps // 10),
            )  # fmt: skip
        return learning_rate(
            self.step - phase.steps, self.recipe.train.steps, start=optimizer.start, peak=optimizer.learning_rate,
            floor=optimizer.floor, warmup=optimizer.warmup_steps,
        )  # fmt: skip

    def _step(self) -> dict[str, Any]:
        torch.manual_seed(hash((self.recipe.train.seed, self.step)) % 2**31)  # dropout, the same after a resume
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["multiplier"]
        start, count = self._stream()
        batch = self.batches.batch(start, count, self.recipe.data.captions_per_item)
        with self.autocast():
            soft = self.model.soft_prompts(batch.features).float()
        record: dict[str, Any] = {"step": self.step, "lr": rate}
        loss = torch.zeros((), device=soft.device)
        if self.step >= self.recipe.vocabulary.steps:
            output = self.model.caption_loss(soft, batch.captions)
            loss = loss + output.loss
            record |= {"loss": output.loss.item(), "tokens": output.tokens}
        if self.vocabulary is not None and (self.step < self.recipe.vocabulary.steps or self.recipe.vocabulary.weight):
            words, precision = self._vocabulary(soft, batch.items)
            weight = 1.0 if self.step < self.recipe.vocabulary.steps else self.recipe.vocabulary.weight
            loss = loss + weight * words
            record |= {"vocabulary_loss": words.item(), "precision_at_5": precision.item()}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(list(self.named.values()), self.recipe.optimizer.clip_norm).item()
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            last = self.folder / "last"
            kept = f"; the last good checkpoint is {last}" if last.exists() else ""
            raise EvlgenError(
                f"loss is {loss.item()} and gradient norm {norm} at step {self.step}{kept}",
                "lower optimizer.learning_rate, then " + ("--resume" if kept else "start again"),
            )
        record["gradient_norm"] = norm
        self.optimizer.step()
        return record

    def _vocabulary(self, soft: Tensor, chosen: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        assert self.vocabulary is not None
        targets = self.vocabulary.targets([self.train[s].items[i] for s, i in chosen]).to(soft.device)
        out: tuple[Tensor, Tensor] = self.vocabulary(soft, targets)
        return out

    def _validate(self) -> dict[str, Any]:
        report = validate(
            self.model, self.validation, self.recipe.validation,
            max_frames=self.recipe.data.max_frames, autocast=self.autocast,
        )  # fmt: skip
        score = sum(r.get("cider", -r["loss"]) for r in report.values()) / len(report)
        self._log({"step": self.step, "validation": report, "score": score})
        if score > self.best:
            self.best = score
            replace_folder(self.folder / "best", self.model.save_pretrained)
            self.save_last()  # `best` and the score in `last` must not part
        return report

    def _log(self, record: dict[str, Any]) -> None:
        seconds = self.seconds_before + time.monotonic() - self.started
        record = {**record, "of": self.total_steps, "seconds": round(seconds, 1)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.report(record)

    def save_last(self) -> None:
        """Write a checkpoint to resume from."""
        seconds = self.seconds_before + time.monotonic() - self.started
        facts = {"step": self.step, "best": self.best, "seconds": seconds}

        def fill(folder: Path) -> None:
            self.model.save_pretrained(folder)
            save_state(folder, self.named, self.optimizer, facts)

        replace_folder(self.folder / "last", fill)
        self.saved = time.monotonic()

    def resume(self) -> int:
        """Go back to the last checkpoint of the folder; returns its step. Later lines of the log are dropped.

        Raises:
            EvlgenError: it is damaged or of another model.
        """
        facts = load_state(self.folder / "last", self.named, self.optimizer)
        self.step, self.best, self.seconds_before = facts["step"], facts["best"], facts["seconds"]
        log = self.folder / "log.jsonl"
        if log.is_file():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            # a training record of step n is written after step n, a validation record names the steps done
            kept = [x for x in lines if x.endswith("\n") and _steps_done(json.loads(x)) <= self.step]
            log.write_text("".join(kept), encoding="utf-8")
        return self.step


def _steps_done(record: dict[str, Any]) -> int:
    return int(record["step"]) + (0 if "validation" in record else 1)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can be resumed from `folder`."""
    return (folder / "last" / STATE_FILE).is_file()
