"""`evlgen train --processes` in real processes: figures, signals, failures, and nobody left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from evlgen.errors import UsageError
from evlgen.training.launch import first_node, join_cluster, processes_to_start
from tests.training.test_processes import recipe_of, same


def write_recipe(pictures: Path, **train: object) -> Path:
    path = pictures / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe_of(pictures, **train).model_dump(mode="json")))
    return path


def begin(pictures: Path, recipe: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evlgen_cli", "train", "--recipe", str(recipe), "--device", "cpu", *more]
    environment = {**os.environ, "EVLGEN_CACHE": str(pictures / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, words: str) -> None:
    for _ in range(600):
        if path.is_file() and words in path.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"no {words} in {path}")


@pytest.mark.slow
def test_a_signal_to_the_starting_process_saves_and_leaves_nobody(pictures: Path) -> None:
    recipe = write_recipe(pictures, steps=5000)
    run = begin(pictures, recipe, "--out", str(pictures / "run"), "--processes", "2")
    wait_for(pictures / "run" / "log.jsonl", '"step": 3')
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= 2
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert errors.count("stopped and saved; go on with: evlgen train --recipe") == 1
    assert errors.count("step 3/") == 1, "only the first process talks"
    assert not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE]
    assert (pictures / "run" / "last" / "training.safetensors").is_file()


@pytest.mark.slow
def test_two_started_processes_end_where_one_with_twice_the_accumulation_does(pictures: Path) -> None:
    recipe = write_recipe(pictures)
    run = begin(pictures, recipe, "--out", str(pictures / "two"), "--processes", "2", "--json")
    out, errors = run.communicate(timeout=100)
    assert run.returncode == 0, errors
    assert json.loads(out)["folder"] == str(pictures / "two")
    one = begin(pictures, recipe, "--out", str(pictures / "one"), "--set", "train.accumulation_steps=2")
    assert one.wait(timeout=100) == 0
    same(pictures / "two", pictures / "one")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "last", "starter"])
def test_when_a_process_is_killed_the_others_end_too(pictures: Path, victim: str) -> None:
    recipe = write_recipe(pictures, steps=5000)
    run = begin(pictures, recipe, "--out", str(pictures / "run"), "--processes", "2")
    wait_for(pictures / "run" / "log.jsonl", '"step": 3')
    children = [c for c in psutil.Process(run.pid).children() if "evlgen_cli" in " ".join(c.cmdline())]
    ranks = {c.environ()["RANK"]: c for c in children}
    (psutil.Process(run.pid) if victim == "starter" else ranks["0" if victim == "first" else "1"]).kill()
    _, errors = run.communicate(timeout=60)
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not [c for c in alive if c.status() != psutil.STATUS_ZOMBIE]
    assert len(gone) == 2
    if victim == "last":
        assert run.returncode == 1
        assert "error: process 1 of 2: was ended by SIGKILL" in errors
        assert "bug:" not in errors


def test_slurm_names_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "41234",
        "SLURM_STEP_NODELIST": "gpu[03-05,9]", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    }  # fmt: skip
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_ID")
    join_cluster()
    assert "RANK" not in os.environ, "a batch script without srun is no member of anything"
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    join_cluster()
    assert [os.environ[n] for n in names] == ["5", "8", "1", "4", "gpu03", "21234"]
    with pytest.raises(UsageError, match="--processes under a launcher"):
        processes_to_start(2, "cpu")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("n[1-4]", "n1"), ("gpu-a[007,9],big", "gpu-a007"), ("a-b.c", "a-b.c")],
)
def test_the_first_node_of_a_list(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


def test_processes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert processes_to_start(None, "cpu") == 1
    assert processes_to_start(3, "cpu") == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_to_start(None, "auto") == 4
    assert processes_to_start(None, "cuda:1") == 1
    with pytest.raises(UsageError, match="--processes 5, but there are 4 GPUs here"):
        processes_to_start(5, "cuda")
