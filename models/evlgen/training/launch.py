"""Joining the processes of a run that somebody else has started.

torchrun and `accelerate launch` tell each process who it is (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT);
srun tells it in names of its own, which are translated here. `starting` is for where nobody has told.
"""

from __future__ import annotations

import os
import re

_SLURM_PORTS = 20_000, 20_000  # first, and how many; a job's number chooses, so that jobs on one node do not meet


def joined() -> bool:
    """Whether this process was told that it is one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join_cluster() -> None:
    """Take srun's word for who this process is, unless somebody else has told."""
    told = os.environ
    tasks = int(told.get("SLURM_STEP_NUM_TASKS", told.get("SLURM_NTASKS", "1")))
    # a batch script that calls us without srun has SLURM_NTASKS too, but is in no step
    if joined() or "SLURM_STEP_ID" not in told or "SLURM_PROCID" not in told or tasks < 2:
        return
    first, count = _SLURM_PORTS
    nodes = told.get("SLURM_STEP_NODELIST", told.get("SLURM_NODELIST", "127.0.0.1"))
    told["RANK"], told["WORLD_SIZE"] = told["SLURM_PROCID"], str(tasks)
    told["LOCAL_RANK"] = told.get("SLURM_LOCALID", "0")
    told.setdefault("LOCAL_WORLD_SIZE", re.split(r"\D", told.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])
    told.setdefault("MASTER_ADDR", first_node(nodes))
    told.setdefault("MASTER_PORT", str(first + int(told.get("SLURM_JOB_ID", "0")) % count))


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list: "gpu[03-05,9],big1" -> "gpu03"."""
    match = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    return nodes if match is None else match[1] + (match[2] or "")
