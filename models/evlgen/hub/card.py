"""The card of a model on the hub: README.md, whose front matter says what the hub shows and finds models by.

A card that lies in the folder stays as it is, and only keys that it lacks are added. Otherwise one is written from
config.json, the run's recipe and the scores that are there; what is not known is not stated.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.hub.model_folder import EVERYWHERE, ModelFolder
from evlgen.hub.scores import ScoredData, scores_beside, validation_of
from evlgen.recipes.data_schema import DataSource
from evlgen.recipes.schema import Recipe
from evlgen.training.run_folder import kept_recipe

WRITTEN = "<!-- Written by evlgen models push, which replaces this card until this line is taken out. -->"
_TASK = "video-text-to-text"
_TAGS = ["video-captioning", "image-captioning", "evlgen", "token-merging"]


def make_card(
    model: ModelFolder, repository: str, *, licence: str | None = None, scores: Sequence[ScoredData] = ()
) -> str:
    """The text of README.md.

    Args:
        model: what is described.
        repository: its OWNER/NAME, for the examples.
        licence: as the hub spells it, such as "apache-2.0"; None: what the card in the folder states, if anything.
        scores: beside those of scores*.json in the folder.

    Raises:
        UsageError: the card in the folder has front matter that is no YAML, or a file of scores holds none.
    """
    from huggingface_hub import ModelCard

    recipe = _recipe(model)
    validation, step = validation_of(model.run) if model.run else ([], "")
    scored = [*scores, *scores_beside(model.folder)]
    facts = _front_matter(model, recipe, [*scored, *validation])
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it remarks on cards without front matter
    text = model.card
    try:
        card = ModelCard(text if text is not None else "")
    except ValueError as error:
        raise UsageError(f"the front matter of {model.folder / 'README.md'} is no YAML: {error}", "mend it") from None
    for key, value in facts.items():
        if card.data.get(key) is None:
            card.data[key] = value
    if licence is not None:
        card.data["license"] = licence
    front = card.data.to_yaml()
    body = card.text.strip("\n")
    if text is None:
        body = _body(model, repository, recipe, (scored, validation, step), card.data.get("license"))
    return f"---\n{front}\n---\n\n{body}\n"


def licence_of(card: str) -> str | None:
    """The licence that the front matter of a card states."""
    from huggingface_hub import ModelCard

    stated = ModelCard(card).data.get("license")
    return None if stated is None else str(stated)


def _recipe(model: ModelFolder) -> Recipe | None:
    if model.run is None:
        return None
    try:
        return kept_recipe(model.run)
    except EvlgenError:  # without it the model is as good
        return None


def _front_matter(model: ModelFolder, recipe: Recipe | None, scored: Sequence[ScoredData]) -> dict[str, Any]:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=_TASK,
            task_name="Video captioning",
            dataset_type=one.data.partition("/")[0],
            dataset_name=f"{one.data} (validation while training)" if one.while_training else one.data,
            metric_type=metric.lower(),
            metric_name=metric,
            metric_value=round(value, 2),
        )
        for one in scored
        for metric, value in one.values.items()
    ]
    bases = [source.removeprefix("hf:").partition("@")[0] for source in _sources(model) if source.startswith("hf:")]
    named = [one.dataset for one in recipe.data.train if one.dataset] if recipe else []
    data = ModelCardData(
        pipeline_tag=_TASK,
        library_name="evlgen",
        tags=_TAGS,
        base_model=["/".join(base.split("/")[:2]) for base in bases] or None,
        datasets=list(dict.fromkeys(named)) or None,
        metrics=list(dict.fromkeys(metric.lower() for one in scored for metric in one.values)) or None,
        model_name=model.name if results else None,
        eval_results=results or None,
    )
    found: dict[str, Any] = data.to_dict()  # type: ignore[no-untyped-call]
    return found


def _sources(model: ModelFolder) -> list[str]:
    return [source for part in ("vision", "language") if (source := model.source(part))]


def _body(
    model: ModelFolder,
    repository: str,
    recipe: Recipe | None,
    scores: tuple[list[ScoredData], list[ScoredData], str],
    licence: str | None,
) -> str:
    parts = [f"# {model.name}", "A model of EVLGen that captions videos and pictures.", _use(repository)]
    parts += ["## What it is", _architecture(model)]
    if recipe is not None:
        parts += ["## How it was trained", _training(recipe)]
    parts += ["## Scores", _scores(*scores)]
    parts += [
        "## Limits and terms",
        "Captions can be wrong in subject, action and detail, and repeat what the training data take for granted. "
        "Nothing but the scores above was measured. "
        + (f"Licence of what is in this repository: {licence}. " if licence else "No licence has been stated. ")
        + "Frozen parts that are fetched from elsewhere have licences of their own, and so have the data.",
        WRITTEN,
    ]
    return "\n\n".join(parts)


def _use(repository: str) -> str:
    return f"""## Use

```bash
pip install evlgen
evlgen caption ./videos --model hf:{repository} --out captions.jsonl
```

```python
import evlgen
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{repository}")
processor = AutoProcessor.from_pretrained("{repository}")
ids = model.generate(**processor(videos="a.mp4"), num_beams=3)
print(processor.batch_decode(ids))
```

With `trust_remote_code=True` the line `import evlgen` may be left out; the package has to be installed all the same."""


def _architecture(model: ModelFolder) -> str:
    config = model.config
    tokens = [config.vision.tokens, *config.tokens_per_layer()]
    rows = [
        ("vision (frozen)", f"{config.vision.name} at {config.vision.image_size} px, from {_named(model, 'vision')}"),
        (
            "connector",
            f"{config.connector.described()}; tokens a layer: " + " → ".join(map(str, tokens)),
        ),
        ("video", f"{config.temporal.frames} frames, fusion {config.temporal.fusion}"),
        ("language (frozen)", f"from {_named(model, 'language')}"),
        ("in model.safetensors", f"{model.parameters / 1e6:.1f} M numbers: all that was trained"),
    ]
    if config.language.lora is not None:
        rows.append(("LoRA", f"rank {config.language.lora.rank} in the language model"))
    if config.confidence is not None:
        rows.append(("confidence", "calibrated: rows say how likely a caption is good"))
    return _table(("part", "what"), rows)


def _named(model: ModelFolder, part: str) -> str:
    """The source of a part in short: its hash stands in config.json."""
    source = (model.source(part) or "nowhere").partition("#")[0]
    return f"`{source}`" + ("" if source.startswith(EVERYWHERE) else " in this repository")


def _training(recipe: Recipe) -> str:
    start = recipe.train.start_from
    rows = [
        ("recipe", f"{recipe.name}: {recipe.summary}"),
        ("trained on", ", ".join(map(_data_name, recipe.data.train))),
        ("validated on", ", ".join(map(_data_name, recipe.data.validation))),
        ("optimizer steps", str(recipe.train.steps)),
        ("items a step", str(recipe.data.items_per_step)),
        ("learning rate", f"{recipe.optimizer.learning_rate:g}"),
        ("seed", str(recipe.train.seed)),
    ]
    if start is not None:
        rows.insert(1, ("started from", "/".join(Path(start).parts[-2:])))
    return _table(("setting", "value"), rows)


def _data_name(source: DataSource) -> str:
    """A data set and split, or a file with its folder: where these lay is nobody's business."""
    if source.dataset is not None:
        return f"{source.dataset}/{source.split}"
    return "/".join(Path(str(source.captions or source.shards)).parts[-2:]) + (
        f" ({source.split})" if source.split else ""
    )


def _scores(scored: list[ScoredData], validation: list[ScoredData], step: str) -> str:
    if not scored and not validation:
        return "None were found beside this model when the card was written."
    parts = []
    if scored:
        rows = [(one.data, metric, _value(one, metric), str(one.items)) for one in scored for metric in one.values]
        parts.append(_table(("data", "metric", "points (95% interval)", "items"), rows))
    if validation:
        parts.append(
            f"Validation while training ({step}): a few items, a quick tokenizer, and the checkpoint was chosen by it. "
            "It is no test result."
        )
        parts.append(
            _table(
                ("data", "metric", "points"),
                [(one.data, metric, f"{value:.1f}") for one in validation for metric, value in one.values.items()],
            )
        )
    return "\n\n".join(parts)


def _value(one: ScoredData, metric: str) -> str:
    interval = (one.intervals or {}).get(metric)
    return f"{one.values[metric]:.1f}" + (f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else "")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; cells are one line each and cannot end it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in line)} |" for line in lines)
