"""Which layers of a language model captions need least: the order in which they are best left out.

From all layers on, the seven whose output differs least from their input (arXiv 2403.03853, block influence) are tried:
the one without which training captions are most likely goes, again and again. Nothing is trained; a recipe's
`language.kept_layers` names what is left, and training mends the rest. Validation and test captions are not looked at.

    EVLGEN_DATA=... python benchmarks/layer_pruning.py [--model evlgen-mini] [--captions 64] [--least 10]
"""

from __future__ import annotations

import argparse
import json
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import EVLGenConfig
from evlgen.modeling.language import load_language_model
from evlgen.weights.named_models import find_checkpoint

TRIED = 7


def training_captions(data: Path, count: int) -> list[str]:
    """Captions of Flickr8k and of MSR-VTT, half and half."""
    chosen: list[str] = []
    for file in (data / "flickr8k" / "captions.jsonl", data / "msrvtt-frames" / "train.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [row for row in rows if row.get("split", "train") == "train"]
        chosen += [random.choice(row["captions"]).lower().rstrip(" .") for row in random.sample(rows, count // 2)]
    return chosen


class Pruned:
    """A language model of which some layers run."""

    def __init__(self, model: str, captions: list[str]) -> None:
        config = EVLGenConfig.from_pretrained(find_checkpoint(model)).language
        self.language: Any = load_language_model(config, dtype=torch.bfloat16)
        self.all = list(self.language.layers)
        start = self.language.encode(config.prompt_before or config.end_text)
        rows = [[*start, *self.language.encode_caption(caption)] for caption in captions]
        self.ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        targets = [torch.tensor([-100] * (len(start) - 1) + row[len(start) :]) for row in rows]
        self.targets = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)

    @torch.no_grad()
    def states(self, kept: list[int]) -> tuple[Tensor, ...]:
        """Hidden states in front of, between and behind the kept layers."""
        body = self.language.model.base_model
        body.layers = nn.ModuleList(self.all[number] for number in kept)
        body.config.num_hidden_layers = len(kept)
        out = body(input_ids=self.ids[:, :-1], use_cache=False, output_hidden_states=True)
        return (*out.hidden_states[:-1], out.last_hidden_state)

    def loss(self, kept: list[int]) -> float:
        """Nats a token of the captions."""
        wanted = self.targets != -100
        logits = F.linear(self.states(kept)[-1][wanted], self.language.head_weight).float()
        return float(F.cross_entropy(logits, self.targets[wanted]))

    def influence(self, kept: list[int]) -> list[float]:
        """How far each layer turns its input: 1 minus the mean cosine."""
        wanted, states = self.targets != -100, self.states(kept)
        return [
            1 - float(F.cosine_similarity(before[wanted].float(), after[wanted].float(), dim=1).mean())
            for before, after in pairwise(states)
        ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="evlgen-mini")
    arguments.add_argument("--captions", type=int, default=64)
    arguments.add_argument("--least", type=int, default=10, help="layers to leave")
    given = arguments.parse_args()
    random.seed(0)
    pruned = Pruned(given.model, training_captions(Path(os.environ["EVLGEN_DATA"]), given.captions))
    kept = list(range(len(pruned.all)))
    print(f"{len(kept)} layers: {pruned.loss(kept):.3f} nats a token")
    print(f"the first {len(kept) // 2} alone: {pruned.loss(kept[: len(kept) // 2]):.3f}")
    while len(kept) > given.least:
        order = sorted(zip(pruned.influence(kept), kept, strict=True))[:TRIED]
        loss, gone = min((pruned.loss([one for one in kept if one != number]), number) for _, number in order)
        kept.remove(gone)
        print(f"{len(kept)} layers: {loss:.3f} without {gone}, left: {', '.join(map(str, kept))}", flush=True)


if __name__ == "__main__":
    main()
