"""The arithmetic of a machine: decided once for all processes, for this CPU and this torch, and kept."""

import json
from pathlib import Path

import pytest

from evlgen import arithmetic
from evlgen.arithmetic import Arithmetic, decided_once

CPUINFO = """processor : 0
vendor_id : GenuineIntel
cpu family : 6
model : 143
model name : Intel(R) Xeon(R) 8481C
stepping : 8
flags : fma avx512f avx512_bf16 amx_bf16

processor : 1
model name : another
"""


class Noise:
    """A measurement that says something else every time."""

    calls = 0

    def __call__(self, cpu: str, torch: str) -> Arithmetic:
        self.calls += 1
        return Arithmetic("bfloat16" if self.calls % 2 else "float32", f"call {self.calls}", cpu, torch, {"float32": 1})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_decided_once_and_again_when_asked() -> None:
    noise = Noise()
    first = decided_once(noise)
    assert [decided_once(noise) for _ in range(5)] == [first] * 5
    assert (noise.calls, first.reason, first.cpu) == (1, "call 1", arithmetic.cpu_name())
    arithmetic.forget()
    assert decided_once(noise).reason == "call 2"


def test_another_machine_or_torch_on_the_same_cache_decides_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Noise()
    decided_once(noise)
    monkeypatch.setattr(arithmetic, "cpu_name", lambda: "another CPU")
    assert decided_once(noise).cpu == "another CPU"
    monkeypatch.setattr(arithmetic.metadata, "version", lambda name: "99.0")
    assert decided_once(noise).torch == "99.0"
    assert noise.calls == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"dtype": "float32", "colour": "red"})])
def test_a_damaged_decision_is_made_again(content: str) -> None:
    noise = Noise()
    decided_once(noise)
    (arithmetic.place() / "arithmetic.json").write_text(content)
    assert decided_once(noise).reason == "call 2"
    assert decided_once(noise).reason == "call 2"


def test_a_cache_that_cannot_be_written_stops_nothing(cache: Path) -> None:
    cache.write_text("in the way")
    assert decided_once(Noise()).reason == "call 1"


def test_a_cpu_is_more_than_its_model_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    found = arithmetic.cpu_name(tmp_path / "cpuinfo")
    assert found == (
        "Intel(R) Xeon(R) 8481C, vendor_id GenuineIntel, cpu family 6, model 143, stepping 8, amx_bf16, avx512_bf16"
    )
    assert arithmetic.cpu_name(tmp_path / "nowhere") != ""
