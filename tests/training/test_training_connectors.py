"""Runs with connectors of every kind: they go on bit for bit, and fsdp gathers their layers one at a time."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.training import train
from evlgen.training.processes import sharded_units
from evlgen.training.task import CaptionTask
from tests.modeling.conftest import KINDS, TINY_CNN, tiny_config, with_connector
from tests.training.conftest import make_recipe


@pytest.mark.parametrize(
    "kind", ["qformer", "perceiver", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("linear", "mlp"))]
)
def test_a_stopped_and_resumed_run_is_the_unbroken_one(pictures: Path, kind: str) -> None:
    dropout = {"dropout": 0.1} if "layers" in KINDS[kind] else {}
    model = with_connector(tiny_config(TINY_CNN), **{**KINDS[kind], **dropout})
    recipe = make_recipe(pictures, model=model.model_dump(), train={"steps": 3}, vocabulary={"steps": 1, "weight": 0.5})
    calls = iter(range(1, 100))
    for folder, stop in (("whole", lambda: False), ("part", lambda: next(calls) == 2)):
        torch.manual_seed(0)  # the frozen parts are random: the same in every run
        train(recipe, folder=pictures / folder, device="cpu", stop=stop)
    torch.manual_seed(0)
    train(recipe, folder=pictures / "part", device="cpu", resume=True)
    whole, part = (load_file(pictures / name / "last" / "training.safetensors") for name in ("whole", "part"))
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in whole)
    trained = EVLGenForConditionalGeneration.from_pretrained(pictures / "whole" / "best")
    assert trained.config == recipe.model


@pytest.mark.parametrize(("kind", "layers"), [("qformer", 3), ("perceiver", 3), ("linear", 0), ("mlp", 0)])
def test_layers_are_sharded_one_by_one(kind: str, layers: int) -> None:
    model = EVLGenForConditionalGeneration.from_config(with_connector(tiny_config(), **KINDS[kind]))
    units = sharded_units(CaptionTask(model, None, torch.float32), cached=True)
    inside = [unit for unit in units if any(unit is part for part in model.connector.modules())]
    assert len(inside) == layers
    assert len(units) == layers + len(model.language.layers)
