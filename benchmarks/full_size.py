"""The document of the paper's full-size models: parameters, names and shapes, tokens, FLOPs, memory.

All of it comes from the real modules on the meta device; nothing is downloaded and no GPU is needed.

    python benchmarks/full_size.py > docs/full-size.md        (about three minutes on one core)
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from evlgen.bench import FULL_SIZE, find_model
from evlgen.bench.flops import ConnectorReport, Work, count, count_model
from evlgen.bench.parameters import PartParameters, memory_bytes, parameters_by_part
from evlgen.bench.variants import Bridge, variants
from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import QFormerConfig
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.skeleton import build_skeleton
from evlgen.recipes import load_recipe
from evlgen.recipes.schema import RepresentationConfig
from evlgen.training.objectives import RepresentationObjective

R = (0, 8, 16, 19)
NEW_TOKENS = 20
WORD_EMBEDDINGS = 30522 * 768
OTHER_EMBEDDINGS = (512 + 2 + 2) * 768  # positions, types, LayerNorm
POOLER = 768 * 768 + 768
"""Of bert-base-uncased."""
WORD_PIECES = 30522

PAPER_HOURS = {
    ("pretrain-opt2.7b-55m", 90_000): 47,
    ("pretrain-opt2.7b", 150_000): 80,
    ("pretrain-opt2.7b", 250_000): 133,
}
"""Clock of EVLGen's schedules as arXiv 2310.03291 publishes it."""
BLIP2_HOURS = 234
UTILISATION = 0.4
PEAK_TFLOPS = {"A100": 312, "H100": 989}
"""Of dense bfloat16, as NVIDIA's data sheets have it."""
PROCESSES = 8

HEADER = """# The full-size models

Made by `python benchmarks/full_size.py > docs/full-size.md` from the modules that train, on the meta device; not to be
edited by hand. `evlgen bench --model full-size --no-time --r 0,8,16,19` shows the FLOPs in tables, `--model NAME` those
of one model. Every model is that of the recipe of its name; `models/evlgen/bench/measured_models.py` lists them."""


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def prose(text: str) -> str:
    """A paragraph in lines of 120 letters."""
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False)


def millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M" if count else "0"


@dataclass(frozen=True)
class ShapeRow:
    """Trained tensors of one name and shape; N in the name stands for the numbers of `count` layers."""

    name: str
    shape: tuple[int, ...]
    count: int


def trained_shapes(model: nn.Module) -> list[ShapeRow]:
    """Names and shapes of what is trained, layers of one shape in one row."""
    rows: dict[tuple[str, tuple[int, ...]], int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rows[re.sub(r"\.\d+\.", ".N.", name), tuple(parameter.shape)] += 1
    return [ShapeRow(name, shape, count) for (name, shape), count in rows.items()]


class Model:
    """One full-size model on the meta device."""

    def __init__(self, name: str) -> None:
        found = find_model(name)
        self.name, self.what, self.config = name, found.what, found.config
        self.skeleton: EVLGenForConditionalGeneration = build_skeleton(self.config)
        self.parts: list[PartParameters] = parameters_by_part(self.skeleton)
        self.shapes: list[ShapeRow] = trained_shapes(self.skeleton)

    def trained(self, part: str | None = None) -> int:
        return sum(one.trained for one in self.parts if part in (None, one.part))

    def flops(self) -> tuple[ConnectorReport, ...]:
        def tell(done: int, total: int) -> None:
            print(f"{self.name}: {done} of {total}", file=sys.stderr)

        return count_model(self.skeleton, variants(self.config, R), NEW_TOKENS, tell)


def parameters(models: list[Model]) -> str:
    """How many there are, against what the paper says."""
    parts = list(dict.fromkeys(one.part for model in models for one in model.parts))
    papers = {one.name: one.paper or "-" for one in FULL_SIZE}
    rows = []
    for model in models:
        by_part = {one.part: one for one in model.parts}
        cells = [
            "-" if part not in by_part else millions(max(by_part[part].trained, by_part[part].frozen)) for part in parts
        ]
        frozen = sum(one.frozen for one in model.parts)
        rows.append([model.name, *cells, millions(model.trained()), papers[model.name], millions(frozen)])
    kind = {one.part: "trained" if one.trained else "frozen" for model in models for one in model.parts}
    columns = [*(f"{part} ({kind[part]})" for part in parts), "trained", "the paper says", "frozen"]
    about = "\n".join(f"- `{model.name}`: {model.what}" for model in models)
    return f"## Parameters\n\n{about}\n\n{markdown(['model', *columns], rows)}\n\n{explanation(models)}"


def explanation(models: list[Model]) -> str:
    """Why 55M and 110M are not what is trained."""
    by_paper = {one.paper: model for one in FULL_SIZE for model in models if model.name == one.name and one.paper}
    large, small = by_paper["110M"], by_paper["55M"]
    own = {paper: sum(r.count * size(r) for r in m.shapes if ".layer." in r.name) for paper, m in by_paper.items()}
    bert = own["110M"] + WORD_EMBEDDINGS + OTHER_EMBEDDINGS + POOLER
    first = prose(
        f"**110M.** The {large.config.connector.layers} layers are those of BERT-base: {millions(own['110M'])}. "
        f"BERT-base as a whole has {millions(bert)}, the 110M that it goes by: on top of the layers come word "
        f"embeddings ({millions(WORD_EMBEDDINGS)}), positions, types and LayerNorm ({millions(OTHER_EMBEDDINGS)}) "
        f"and a pooler ({millions(POOLER)}). TomeFormer sees no words: it has neither word embeddings nor pooler, and "
        f"{large.config.vision.tokens} positions instead of 512. With LayerNorm and both projections "
        f"{millions(large.trained())} are trained; with word embeddings they would be "
        f"{millions(large.trained() + WORD_EMBEDDINGS)}."
    )
    second = prose(
        f"**55M.** No sum of parts gives it: the {small.config.connector.layers} layers have {millions(own['55M'])}, "
        f"{millions(small.trained())} are trained, and with word embeddings they would be "
        f"{millions(small.trained() + WORD_EMBEDDINGS)}. 55 is half of 110, so we take it as the name of half the "
        "layers. The paper gives no count by part: both readings are ours."
    )
    return f"{first}\n\n{second}\n\nTemporal modules come on top in the video model."


def size(row: ShapeRow) -> int:
    """Elements of one tensor of a row."""
    total = 1
    for n in row.shape:
        total *= n
    return total


def memory(models: list[Model]) -> str:
    """Of one GPU."""
    rows = []
    for model in models:
        used = memory_bytes(model.parts)
        parts = (used.frozen, used.trained, used.gradients, used.optimizer, used.total)
        rows.append([model.name, *(f"{part / 1e9:.2f} GB" for part in parts)])
    table = markdown(["model", "frozen (bfloat16)", "trained (float32)", "gradients", "AdamW's moments", "total"], rows)
    return f"""## Memory of one GPU

Of parameters, gradients and optimizer state; every process of a DDP run holds all of it. Activations, which grow with
the batch, are not in it. 1 GB is 10^9 bytes.

{table}"""


def tokens(config: EVLGenConfig) -> str:
    """What leaves each layer."""
    rows = []
    for layers in (6, 12):
        for r in R:
            connector = config.connector.model_copy(update={"layers": layers, "r": r})
            flow = config.model_copy(update={"connector": connector}).tokens_per_layer()
            rows.append([layers, r, " ".join(map(str, flow)), flow[-1]])
    return f"""## Tokens

{config.vision.tokens} visual tokens enter the first layer; frames of a video are averaged before it.

{markdown(["layers", "r", "tokens after each layer", "soft prompts"], rows)}"""


def shapes(models: list[Model]) -> str:
    """Names and shapes of what is trained: what a checkpoint holds."""
    names = list(dict.fromkeys(row.name for model in models for row in model.shapes))
    cells = [{row.name: f"{row.count} x {_shape(row)}" for row in model.shapes} for model in models]
    rows = [[f"`{name}`", *(cell.get(name, "-") for cell in cells)] for name in names]
    return f"""## Trained tensors

Names and shapes; N stands for the numbers of layers or blocks, in front of a shape stands how many there are.

{markdown(["name", *(model.name for model in models)], rows)}"""


def _shape(row: ShapeRow) -> str:
    return "[" + ", ".join(map(str, row.shape)) + "]"


def flops(models: list[Model], reports: Mapping[str, Sequence[ConnectorReport]]) -> str:
    """Of a training step and of a caption."""
    frames = ", ".join(f"`{m.name}` {m.config.temporal.frames}" for m in models if m.config.temporal.frames > 1)
    text, qformer = models[0].config.language.max_text_tokens, QFormerConfig()
    table = [_flops_rows(name, found) for name, found in reports.items()]
    columns = ["model", "connector", "soft prompts", "connector's parameters", "connector, forward", "step: tower"]
    columns += ["step: connector", "step: language model", "training step", "of r=0", "caption", "of r=0"]
    said = prose(
        f"For one item (one frame; {frames} frames), in GFLOP. A training step has a caption of {text} tokens and "
        "includes the backward pass; its parts are the vision tower, the connector and the language model. The tower "
        f"of a picture model runs no backward pass. A caption is greedy, of {NEW_TOKENS} tokens. "
        "2 FLOPs a multiply-add; matrix products, convolutions and attention are counted "
        "(`models/evlgen/bench/flops.py` says "
        f'what is not). "q-former" is BLIP-2\'s in the place of TomeFormer, of the same width: {qformer.queries} '
        f"queries, {qformer.layers} layers, cross attention in one of {qformer.cross_every}, without its text branch."
    )
    checked = "Counted by torch's FlopCounterMode; tests/bench/test_flops.py holds it against closed formulas."
    return f"## FLOPs\n\n{said}\n\n{checked}\n\n{markdown(columns, [row for rows in table for row in rows])}"


def _flops_rows(name: str, found: Sequence[ConnectorReport]) -> list[list[str]]:
    first = found[0]
    return [
        [
            name,
            one.name,
            str(one.soft_prompts),
            millions(one.parameters),
            _giga(one.connector),
            *_parts(one.step),
            f"{one.step.total / first.step.total:.0%}",
            _giga(one.caption.total),
            f"{one.caption.total / first.caption.total:.0%}",
        ]
        for one in found
    ]


def _parts(work: Work) -> list[str]:
    return [_giga(n) for n in (work.vision, work.connector, work.language, work.total)]


def _giga(count: int) -> str:
    return f"{count / 1e9:,.1f}"


def count_first_stage(config: EVLGenConfig, stage: RepresentationConfig, items: int, word_pieces: int) -> int:
    """FLOPs of BLIP-2's first stage behind the tower, for each of `items` in one process, with the longest texts."""
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3} | {f"w{n}": n for n in range(4, word_pieces)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}
    with tempfile.TemporaryDirectory() as folder, FakeTensorMode():
        tokenizer = Path(folder, "tokenizer.json")
        tokenizer.write_text(json.dumps({"model": model, "pre_tokenizer": {"type": "Whitespace"}}))
        bridge = Bridge(config)
        objective = RepresentationObjective(bridge.connector, stage, tokenizer)  # type: ignore[arg-type]
        seen = torch.empty(items, config.vision.tokens, config.vision.width)
        texts = ["a " * stage.max_text_tokens] * items

        def work() -> None:
            losses = objective(bridge.vl_proj(bridge.ln_vision(seen)), texts)
            torch.stack(list(losses.values())).sum().backward()

        return count(work) // items


def schedules(reports: Mapping[str, Sequence[ConnectorReport]]) -> str:
    """What the paper's runs cost as a whole, beside its hours."""
    steps = {(name, one.name): one.step.total for name, found in reports.items() for one in found}
    towers = {one.step.vision for one in reports["pretrain-opt2.7b"]}
    own, two = load_recipe("pretrain-opt2.7b"), load_recipe("pretrain-opt2.7b-qformer-two-stages")
    first, items = two.representation, own.data.items_per_step
    stage_1 = max(towers) + count_first_stage(two.model, first, first.items_per_step // PROCESSES, WORD_PIECES)
    qformer = steps["pretrain-opt2.7b", "q-former"]
    r = f"r={own.model.merging('').r}"
    runs = [
        (f"EVLGen, `{name}`", [(count, items, steps[name, r])], hours) for (name, count), hours in PAPER_HOURS.items()
    ]
    runs += [
        ("a Q-Former in one stage, `pretrain-opt2.7b-qformer`", [(own.train.steps, items, qformer)], None),
        ("BLIP-2, first stage", [(first.steps, first.items_per_step, stage_1)], None),
        ("BLIP-2, second stage", [(two.train.steps, two.data.items_per_step, qformer)], None),
    ]
    runs.append(("BLIP-2, `pretrain-opt2.7b-qformer-two-stages`", runs[-2][1] + runs[-1][1], BLIP2_HOURS))
    whole = _total(runs[-1][1])
    rows = [
        [
            name,
            " + ".join(f"{count:,}" for count, _, _ in phases),
            " + ".join(f"{batch:,}" for _, batch, _ in phases),
            " + ".join(_giga(each) for _, _, each in phases),
            f"{_total(phases) / 1e18:,.0f}",
            f"{_total(phases) / whole:.0%}",
            *(f"{_total(phases) / (UTILISATION * peak * 1e12) / 3600:,.0f}" for peak in PEAK_TFLOPS.values()),
            f"{hours} h" if hours else "-",
            f"{hours / BLIP2_HOURS:.0%}" if hours else "-",
        ]
        for name, phases, hours in runs
    ]
    columns = ["schedule", "steps", "pairs a step", "GFLOP a pair", "EFLOP", "of BLIP-2's"]
    columns += [*(f"{gpu} hours" for gpu in PEAK_TFLOPS), "clock, published", "of BLIP-2's"]
    peaks = " and ".join(f"{peak} ({gpu})" for gpu, peak in PEAK_TFLOPS.items())
    said = prose(
        "Steps times pairs times FLOPs of a pair, from the recipes and the table above; nothing of it has been run by "
        f"us. 1 EFLOP is 10^18. Hours are those of one GPU at {UTILISATION:.0%} of its dense bfloat16 TFLOP/s, "
        f"{peaks}, an assumption: a run on {PROCESSES} takes an {PROCESSES}th by the clock. Reading data, validation "
        "and exchange between GPUs are not in it. BLIP-2's first stage is counted from the objective that trains it: "
        "the tower, then in the Q-Former contrast, matching (three pairs an item) and captions, with texts of "
        f"{first.max_text_tokens} word pieces; the language model does not run. Its batches are those of arXiv "
        "2301.12597 in the first stage and ours in the second. The last two columns are the clock that arXiv "
        "2310.03291 publishes, on its GPUs: no measurement of ours."
    )
    return f"## Training schedules\n\n{said}\n\n{markdown(columns, rows)}\n\n{_what_schedules_say()}"


def _total(phases: Sequence[tuple[int, int, int]]) -> int:
    return sum(count * batch * each for count, batch, each in phases)


def _what_schedules_say() -> str:
    seconds = {name: hours * 3600 / steps for (name, steps), hours in PAPER_HOURS.items()}
    small, large = f"{seconds['pretrain-opt2.7b-55m']:.2f} s", f"{seconds['pretrain-opt2.7b']:.2f} s"
    return prose(
        f"What the hours say and FLOPs do not: the published clock is {small} a step for the small model and {large} "
        "for the large one, while by FLOPs a step of the small one costs about twice as much, since six layers of "
        "r = 19 leave 143 soft prompts and twelve leave 29. With twice the r its steps would cost about what the large "
        "one's do. The paper does not give its r; ours is a reading. And BLIP-2's two stages, against EVLGen's 250,000 "
        "steps, take more by the clock than by FLOPs; where the rest goes the paper does not say."
    )


def document() -> str:
    """All of it."""
    models = [Model(one.name) for one in FULL_SIZE]
    reports = {model.name: model.flops() for model in models}
    sections = [parameters(models), memory(models), tokens(models[0].config), flops(models, reports)]
    sections += [schedules(reports), shapes(models)]
    return "\n\n".join([HEADER, *sections]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
