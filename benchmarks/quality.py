"""Caption quality of a model, matched and shuffled, by the scores of `evlgen eval` (equal to pycocoevalcap's).

"Shuffled" scores the same captions against the references of the next item: what is left is style. A model that sees
falls below a third of its score.

    EVLGEN_DATA=... python benchmarks/quality.py --model evlgen-mini [--split test] [--beams 1 3] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evlgen.data.decoding import FrameReader
from evlgen.data.media import MediaStore
from evlgen.metrics.scoring import ScoringOptions, score_captions, tokenize_sets
from evlgen.metrics.tokenizer import tokenize_captions
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_dtype
from evlgen.modeling.tags import Tag
from evlgen.video import ClipFrames, DecodePool, Sampler

BATCH = 25
Seen = tuple[torch.Tensor, list[list[Tag]]]


def encode_set(model: Any, data: Path, name: str, split: str) -> tuple[list[list[str]], Seen]:
    """References of every item of a data set, and what the model sees of it."""
    if name == "flickr8k":
        rows = [json.loads(line) for line in (data / name / "captions.jsonl").read_text().splitlines()]
        rows = [r for r in rows if r["split"] == split]
        store = MediaStore(str(data / name / "images.tar"))
        with FrameReader(1, model.config.vision.image_size) as reader:
            clips = (np.stack(reader.read(r["image"], store, whole=True)) for r in rows)
            return [r["captions"] for r in rows], run(model, clips)
    rows = [json.loads(line) for line in (data / name / f"{split}.jsonl").read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:  # the way `evlgen caption` sees videos
        with tarfile.open(data / name / f"{split}.tar") as tar:
            tar.extractall(folder, filter="data")
        side = model.config.vision.image_size
        frames: dict[str, Any] = {}
        sampler = Sampler(frames=model.config.temporal.frames)
        with DecodePool(sampler=sampler, size=(side, side)) as pool:
            for clip in pool.map([str(Path(folder) / r["video"]) for r in rows]):
                assert isinstance(clip, ClipFrames), clip
                frames[Path(clip.path).name] = clip.frames
    return [r["captions"] for r in rows], run(model, (frames[r["video"]] for r in rows))


def run(model: Any, clips: Any) -> Seen:
    """Soft prompts and tags of clips, computed in batches."""
    soft: list[torch.Tensor] = []
    tags: list[list[Tag]] = []
    waiting: list[Any] = []

    def see() -> None:
        prompts, own = model.look(model.encode(model.processor(waiting)))
        soft.append(prompts)
        tags.extend(own)
        waiting.clear()

    for clip in clips:
        waiting.append(clip)
        if len(waiting) == BATCH:
            see()
    if waiting:
        see()
    return torch.cat(soft), tags


def score(references: list[list[str]], captions: list[str]) -> dict[str, float]:
    """CIDEr, BLEU-4 and ROUGE-L in points (x100)."""
    scored = score_captions(tokenize_captions(captions), tokenize_sets(references), ScoringOptions())
    return {name: one.statistics.value for name, one in scored.items() if one.statistics is not None}


def main() -> None:
    """Print one table row per data set and decoding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="evlgen-mini")
    parser.add_argument("--split", default="test", choices=["val", "test"])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--length-penalty", type=float, default=1.0)
    parser.add_argument("--sets", nargs="+", default=["flickr8k", "msrvtt-frames"])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, help="folder for the captions as JSONL")
    args = parser.parse_args()
    data = os.environ.get("EVLGEN_DATA")
    if data is None:
        sys.exit("set EVLGEN_DATA to the folder of the captioned data")
    keep_large_allocations()
    model = EVLGenForConditionalGeneration.from_pretrained(args.model, dtype=pick_dtype(args.dtype, "cpu"))
    print("| set | items | beams | CIDEr | BLEU-4 | ROUGE-L | CIDEr shuffled | distinct captions | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    with torch.inference_mode():
        for name in args.sets:
            references, (prompts, tags) = encode_set(model, Path(data), name, args.split)
            for beams in args.beams:
                started = time.monotonic()
                captions: list[str] = []
                for start in range(0, len(prompts), BATCH):
                    batch = slice(start, start + BATCH)
                    captions += model.generate_from(
                        prompts[batch],
                        tags=tags[batch],
                        num_beams=beams,
                        max_new_tokens=30,
                        length_penalty=args.length_penalty,
                    ).texts
                seconds = time.monotonic() - started
                matched = score(references, captions)
                shuffled = score(references, captions[1:] + captions[:1])
                print(
                    f"| {name} {args.split} | {len(captions)} | {beams} | {matched['CIDEr']:.1f} | "
                    f"{matched['BLEU-4']:.1f} | {matched['ROUGE-L']:.1f} | {shuffled['CIDEr']:.1f} | "
                    f"{len(set(captions))} | {seconds:.0f} |",
                    flush=True,
                )
                if args.out is not None:
                    args.out.mkdir(parents=True, exist_ok=True)
                    rows = zip(captions, references, strict=True)
                    lines = [json.dumps({"caption": c, "references": r}, ensure_ascii=False) for c, r in rows]
                    (args.out / f"{name}-{args.split}-{beams}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
