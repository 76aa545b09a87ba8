"""A run that goes on: with the settings it has, from the checkpoint it has, in a folder that nobody else works in."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import Recipe
from evlgen.training import train
from evlgen.training.run_folder import resumed_recipe
from tests.training.conftest import make_recipe
from tests.training.test_processes import log


def run(recipe: Any, folder: Path, **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)  # the frozen parts of a test model are random: the same in every run
    return train(recipe, folder=folder, device="cpu", **options)


def stopped_after(steps: int) -> Any:
    calls = iter(range(1, 1000))
    return lambda: next(calls) == steps


def begun(recipe: Any, folder: Path) -> None:
    """A run that was stopped after its first logged step."""
    told: list[dict[str, Any]] = []
    run(recipe, folder, report=told.append, stop=lambda: any("lr" in row for row in told))


def same(part: Path, whole: Path) -> None:
    for name in ("last/training.safetensors", "best/model.safetensors"):
        a, b = load_file(part / name), load_file(whole / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name
    assert log(part) == log(whole)


@pytest.mark.parametrize("asked", [1, 49, *(pytest.param(at, marks=pytest.mark.slow) for at in (9, 16, 71, 104))])
def test_a_run_given_up_anywhere_goes_on_bit_for_bit(finished: tuple[Recipe, Path], tmp_path: Path, asked: int) -> None:
    """`interrupt` is asked at every layer: inside validations, forward passes, and between steps."""
    recipe, whole = finished
    part = tmp_path / "part"
    stopped: list[bool] = []
    run(recipe, part, interrupt=stopped_after(asked), on_stop=lambda: stopped.append(True))
    assert stopped == [True]
    run(recipe, part, resume=part.is_dir())
    same(part, whole)


def test_the_first_validation_is_that_of_the_start(finished: tuple[Recipe, Path], tmp_path: Path) -> None:
    _, before = finished
    first = next(row for row in log(before) if "validation" in row)
    assert first["step"] == 0
    start = {"start_from": str(before / "best"), "steps": 3}
    run(make_recipe(before.parent, train=start, vocabulary={"steps": 0}), tmp_path / "on")
    best = max((row for row in log(before) if "validation" in row), key=lambda row: row["score"])
    began = next(row for row in log(tmp_path / "on") if "validation" in row)
    assert began["validation"] == best["validation"], "the model it starts from, as the run before had measured it"


def test_settings_are_those_of_the_run_and_changes_are_named(pictures: Path) -> None:
    recipe = make_recipe(pictures, train={"steps": 6})
    begun(recipe, pictures / "run")
    by_file = make_recipe(pictures)  # its file says 8 steps
    kept, notes = resumed_recipe(pictures / "run", ["train.log_every=5"], by_file)
    assert (kept.train.steps, kept.train.log_every) == (6, 5)
    assert notes[:2] == [
        "changed for the rest of this run: train.log_every is 5, was 1",
        "kept as the run was started: train.steps is 6, the recipe has 8 (--set changes what may change)",
    ]
    run(kept, pictures / "run", resume=True)
    assert log(pictures / "run")[-1]["step"] == 10
    changed, _ = resumed_recipe(pictures / "run", ["train.seed=4"], None)
    with pytest.raises(UsageError, match=r"another recipe: train\.seed differ"):
        run(changed, pictures / "run", resume=True)
    with pytest.raises(UsageError, match=r"unknown key train\.stps"):
        resumed_recipe(pictures / "run", ["train.stps=4"], None)


@pytest.mark.parametrize("left", ["nothing", "no state"])
def test_a_missing_checkpoint_is_refused_and_what_is_there_is_named(
    finished: tuple[Recipe, Path], tmp_path: Path, left: str
) -> None:
    recipe, done = finished
    folder = shutil.copytree(done, tmp_path / "run")
    (folder / "last" / "training.safetensors").unlink()
    expected = r"last holds config.json.* but no training.safetensors"
    if left == "nothing":
        for path in (folder / "last").iterdir():
            path.unlink()
        (folder / "last").rmdir()
        expected = r"last is missing"
    with pytest.raises(UsageError, match=rf"cannot be resumed after 12 logged steps.*{expected}.*start_from=.*best"):
        run(recipe, folder, resume=True)


def test_a_checkpoint_whose_values_a_disk_has_lost_is_not_gone_on_from(pictures: Path) -> None:
    begun(make_recipe(pictures), pictures / "run")
    state = pictures / "run" / "last" / "training.safetensors"
    content = bytearray(state.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    state.write_bytes(content)
    with pytest.raises(EvlgenError, match=r"training\.safetensors is damaged: its values are not those that were wr"):
        run(make_recipe(pictures), pictures / "run", resume=True)


FACTS = {"step": 3, "best": 0.5, "seconds": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (None, "does not say at which step it is"),
        ("[[" * 100_000, "nested too deeply"),
        ("nonsense", "is not JSON"),
        (json.dumps({**FACTS, "step": -3}), "step: input should be greater than or equal to 0"),
        (json.dumps({**FACTS, "step": "3"}), "step: input should be a valid integer"),
        (json.dumps({**FACTS, "guard": []}), "guard: "),
        (json.dumps({**FACTS, "step": 900}), "is at step 900, the run has 12"),
        ("7", "all of it: "),
    ],
)
def test_a_checkpoint_with_garbled_facts_is_one_line(pictures: Path, facts: str | None, said: str) -> None:
    folder = pictures / "run"
    begun(make_recipe(pictures), folder)
    state = folder / "last" / "training.safetensors"
    save_file(load_file(state), state, metadata={} if facts is None else {"facts": facts})
    with pytest.raises(EvlgenError, match=said) as caught:
        run(make_recipe(pictures), folder, resume=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_lacking_the_average_is_of_another_model(pictures: Path) -> None:
    recipe = make_recipe(pictures, train={"ema_decay": 0.9})
    begun(recipe, pictures / "run")
    state = pictures / "run" / "last" / "training.safetensors"
    tensors = {name: value for name, value in load_file(state).items() if not name.startswith("average.")}
    save_file(tensors, state, metadata={"facts": json.dumps(FACTS)})
    with pytest.raises(EvlgenError, match="checkpoint of another model"):
        run(recipe, pictures / "run", resume=True)


def test_one_run_in_a_folder_and_the_second_is_told_who_holds_it(pictures: Path) -> None:
    recipe = make_recipe(pictures)
    refused: list[str] = []
    told: list[dict[str, Any]] = []

    def meanwhile() -> bool:
        if told and not refused:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        return False

    def second() -> None:
        try:
            run(recipe, pictures / "run", resume=True)
        except EvlgenError as error:
            refused.append(str(error))

    run(recipe, pictures / "run", report=told.append, stop=meanwhile)
    assert "is in use by process" in refused[0]
    assert len(refused) == 1


def test_checkpoints_are_readable_by_whom_the_umask_lets(finished: tuple[Recipe, Path], tmp_path: Path) -> None:
    _, folder = finished
    probe = tmp_path / "probe"
    probe.touch()
    files = list(folder.glob("*/*.safetensors"))
    assert len(files) == 3
    assert {file.stat().st_mode for file in files} == {probe.stat().st_mode}
