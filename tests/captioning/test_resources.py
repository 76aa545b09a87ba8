"""Which device and arithmetic `auto` means, and which spellings are refused."""

from pathlib import Path

import pytest

from evlgen.captioning import resources
from evlgen.errors import UsageError


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [
        ("processor : 0\nflags\t\t: fpu sse2 avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2 avx512bw\n", False),
        ("", False),
    ],
)
def test_bfloat16_is_taken_where_the_cpu_multiplies_it(tmp_path: Path, cpuinfo: str, native: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert resources.cpu_multiplies_bfloat16(path) is native


def test_a_machine_without_cpuinfo_takes_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not resources.cpu_multiplies_bfloat16(tmp_path / "nothing")
    monkeypatch.setattr(resources, "cpu_multiplies_bfloat16", lambda: False)
    assert resources.resolve_dtype("auto", "cpu") == "float32"
    monkeypatch.setattr(resources, "cpu_multiplies_bfloat16", lambda: True)
    assert resources.resolve_dtype("auto", "cpu") == "bfloat16"
    assert resources.resolve_dtype("auto", "mps") == "float32"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="--dtype 'int8' is unknown"):
        resources.resolve_dtype("int8", "cpu")
    with pytest.raises(UsageError, match="--device 'gpu' is no device"):
        resources.resolve_device("gpu")
    with pytest.raises(UsageError, match="--device cuda:99: this machine has no such device"):
        resources.resolve_device("cuda:99")
    assert resources.resolve_device("cpu") == "cpu"
