"""A small language model for the race of connectors, made of nothing but the captions of a recipe's training data.

    python benchmarks/caption_language.py --recipe mini-race-tomeformer --out runs/caption-language

With a language model of 135 million weights a race takes a day on two cores without bfloat16. This one has four
million: a Llama of transformers with a vocabulary of its own. A document is several captions of one picture, a line
each, so that the model learns to write what the lines before are about; soft prompts take the place of such a line.
After that it is frozen, and the same for every runner. Printed are nats a token on validation captions: alone, behind
another caption of the same picture, and behind one of another picture. The difference is what seeing can bring.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evlgen.data.caption_sources import read_sources
from evlgen.modeling.hardware import keep_large_allocations
from evlgen.recipes import load_recipe

END = "\n"
VOCABULARY = 4096
LINES = 6
"""Most captions of a document."""


def new_tokenizer(captions: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte pairs that are frequent in the captions; a line break is one token and ends a caption."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    end = AddedToken(END, special=True, normalized=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, clean_up_tokenization_spaces=False)


def padded(documents: Sequence[list[int]]) -> Tensor:
    """Token ids (documents, longest); -100 behind the end of a shorter one."""
    longest = max(map(len, documents))
    return torch.tensor([document + [-100] * (longest - len(document)) for document in documents])


def loss(model: LlamaForCausalLM, ids: Tensor, wanted: Tensor) -> Tensor:
    """Nats a token of those that are wanted, each read off the tokens before it."""
    logits = model(input_ids=ids.clamp_min(0)).logits[:, :-1]
    targets = ids.masked_fill(~wanted, -100)[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def documents(pictures: Sequence[list[list[int]]], end: int, count: int, drawn: random.Random) -> Iterator[Tensor]:
    """Batches of documents without end: pictures in random order, captions of each too."""
    while True:
        order = drawn.sample(pictures, len(pictures))
        for start in range(0, len(order) - count + 1, count):
            yield padded(
                [
                    [end, *(token for caption in drawn.sample(own, min(LINES, len(own))) for token in caption)]
                    for own in order[start : start + count]
                ]
            )


@torch.inference_mode()
def validation(model: LlamaForCausalLM, pictures: Sequence[list[list[int]]], end: int) -> dict[str, float]:
    """Nats a token of one caption of each picture, by what stands before it."""
    chosen = [own for own in pictures if len(own) > 1][:512]
    others = chosen[1:] + chosen[:1]
    before = {
        "alone": [[end]] * len(chosen),
        "behind another of its own": [[end, *own[1]] for own in chosen],
        "behind one of another picture": [[end, *own[1]] for own in others],
    }
    said = {}
    for name, lines in before.items():
        ids = padded([line + own[0] for line, own in zip(lines, chosen, strict=True)])
        places = torch.arange(ids.shape[1])
        wanted = (ids >= 0) & (places >= torch.tensor([[len(line)] for line in lines]))
        said[name] = float(loss(model, ids, wanted))
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="whose captions are read")
    parser.add_argument("--out", type=Path, required=True, help="folder, in the layout of transformers")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--documents", type=int, default=48, help="of a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=256, help="of the model, a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--bfloat16", action="store_true", help="products in bfloat16: processors that are fast at it")
    args = parser.parse_args()
    transformers.logging.disable_progress_bar()
    keep_large_allocations()
    torch.manual_seed(0)
    training, held_out = read_sources(load_recipe(args.recipe).data)
    captions = [[item.captions for source in part for item in source.items] for part in (training, held_out)]
    tokenizer = new_tokenizer([caption for own in captions[0] for caption in own])
    end = tokenizer.convert_tokens_to_ids(END)
    learnt, kept = (
        [[[*tokenizer.encode(caption), end] for caption in own] for own in part if own] for part in captions
    )
    sizes = {
        "hidden_size": args.width,
        "intermediate_size": args.width * 11 // 4,
        "num_hidden_layers": args.layers,
        "num_attention_heads": args.width // 32,
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
            **sizes,
        )
    )
    print(
        f"{model.num_parameters():,} weights, {len(learnt):,} pictures, {sum(map(len, learnt)):,} captions", flush=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 30) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / args.steps)))
    )
    batches = documents(learnt, end, args.documents, random.Random(0))
    begun, mean = time.perf_counter(), 0.0
    for step in range(1, args.steps + 1):
        ids = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            value = loss(model, ids, ids >= 0)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        mean += value.item()
        if step % 50 == 0 or step == args.steps:
            said = ", ".join(f"{name} {nats:.3f}" for name, nats in validation(model, kept, end).items())
            passed = time.perf_counter() - begun
            print(f"step {step}: {mean / ((step - 1) % 50 + 1):.3f}; {said}; {passed:.0f} s", flush=True)
            mean = 0.0
            model.save_pretrained(args.out)
            tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
