"""How many CPUs a run takes, and which arithmetic `auto` means."""

import pytest

from evlgen.captioners.opening import local_dtype
from evlgen.captioning import caption_run
from evlgen.errors import UsageError
from evlgen.modeling import half_matrices, hardware


@pytest.mark.parametrize(("cpus", "workers"), [(1, 2), (2, 2), (8, 4), (200, 16)])
def test_decoding_gets_half_of_the_cpus(monkeypatch: pytest.MonkeyPatch, cpus: int, workers: int) -> None:
    monkeypatch.setattr(caption_run, "usable_cpus", lambda: cpus)
    assert caption_run.default_workers() == workers


@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize("bfloat16", [True, False])
def test_matrices_are_in_float16_where_a_cpu_has_no_fast_bfloat16(
    monkeypatch: pytest.MonkeyPatch, products: bool, bfloat16: bool
) -> None:
    monkeypatch.setattr(half_matrices, "has_half_products", lambda: products)
    monkeypatch.setattr(hardware, "cpu_has_fast_bfloat16", lambda: bfloat16)
    expected = "bfloat16" if bfloat16 else "float16" if products else "float32"
    assert local_dtype("auto", "cpu", half_matrices=True) == expected
    assert local_dtype("float32", "cpu", half_matrices=True) == "float32"
    if products:
        assert local_dtype("float16", "cpu", half_matrices=True) == "float16"
    else:
        with pytest.raises(UsageError, match="ten times slower"):
            local_dtype("float16", "cpu", half_matrices=True)


def test_every_auto_is_decided_before_it_is_written_down() -> None:
    assert local_dtype("float32", "cpu") == "float32"
    assert local_dtype("auto", "cpu") in ("float32", "bfloat16")
    with pytest.raises(UsageError, match="--dtype float16 is ten times slower on a CPU"):
        local_dtype("float16", "cpu")
    with pytest.raises(UsageError, match="--dtype 'int8' is unknown"):
        local_dtype("int8", "cpu")
    with pytest.raises(UsageError, match="--device nonsense is not on this machine"):
        local_dtype("auto", "nonsense")
