"""The ways to merge that the benchmark times give one result, and so does the version that one writes first."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.docs.collecting import ROOT


@pytest.fixture(scope="module")
def script() -> Any:
    path = Path(ROOT) / "benchmarks" / "merging_speed.py"
    spec = importlib.util.spec_from_file_location("merging_speed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tokens", [257, 40])
def test_all_ways_give_one_result(script: Any, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, metric = torch.randn(2, tokens, 16), torch.randn(2, tokens, 8)
    script.check_equal(x, metric, 19, 1e-5)
    script.check_equal(x.bfloat16(), metric, 19, 2e-2)
    monkeypatch.setitem(
        script.WAYS, "wrong", lambda x, size, places, remaining: (x[:, :remaining], size[:, :remaining])
    )
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):  # it would notice
        script.check_equal(x, metric, 19, 1e-5)
