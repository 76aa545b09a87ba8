"""CPUs are counted as the system grants them: affinity, and quotas of control groups of both versions."""

import os
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
