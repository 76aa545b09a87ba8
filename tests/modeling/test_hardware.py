"""The precision that `auto` means: what the machine is measured to be faster in."""

from pathlib import Path

import pytest
import torch

from evlgen.modeling import hardware

FAST, SLOW = 0.001, 0.003


@pytest.mark.parametrize(
    ("has", "bfloat16", "expected"),
    [
        (True, FAST, torch.bfloat16),
        (True, SLOW * 2, torch.float32),
        (True, SLOW, torch.float32),
        (False, FAST, torch.float32),
    ],
    ids=["faster", "slower", "equal", "no instructions"],
)
def test_auto_is_bfloat16_only_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has: bool, bfloat16: float, expected: torch.dtype
) -> None:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    seconds = {torch.float32: [SLOW], torch.bfloat16: [bfloat16, bfloat16 * 9]}  # one disturbed measurement in two
    counts = dict.fromkeys(seconds, 0)

    def measured(dtype: torch.dtype) -> float:
        counts[dtype] += 1
        return seconds[dtype][counts[dtype] % len(seconds[dtype])]

    monkeypatch.setattr(hardware, "_product_seconds", measured)
    hardware.cpu_arithmetic.cache_clear()
    try:
        assert hardware.pick_dtype("auto", "cpu") == expected
    finally:
        hardware.cpu_arithmetic.cache_clear()
