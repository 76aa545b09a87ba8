"""CPUs are counted as the system grants them: affinity, and quotas of control groups of both versions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evlgen.system.cpus import usable_cpus


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"sys/fs/cgroup/cpu.max": ""}, 8),
        ({"sys/fs/cgroup/cpu.max": "1 0"}, 8),
        ({"proc/self/cgroup": "0::/slice/job\n", "sys/fs/cgroup/slice/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/slice/job\n", "sys/fs/cgroup/slice/job/cpu.max": "100000 100000"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_quotas(files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert usable_cpus(tmp_path) == expected


def test_threads_wait_asleep_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """GNU's OpenMP says what it reads: a value of ours is there, a value of the user's stays."""
    code = "from evlgen.system.cpus import threads_wait_asleep; threads_wait_asleep(); import torch"
    for given, seen in ((None, "20000"), ("77", "77")):
        monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
        if given is not None:
            monkeypatch.setenv("GOMP_SPINCOUNT", given)
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
        if "GOMP_SPINCOUNT" not in said:
            pytest.skip("this torch uses another OpenMP")
        assert f"GOMP_SPINCOUNT = '{seen}'" in said
