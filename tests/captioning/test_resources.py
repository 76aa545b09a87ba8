"""How many CPUs a run takes, and which arithmetic `auto` means."""

import pytest

from evlgen.captioners.opening import local_dtype
from evlgen.captioning import caption_run
from evlgen.errors import UsageError


@pytest.mark.parametrize(("cpus", "workers"), [(1, 2), (2, 2), (8, 4), (200, 16)])
def test_decoding_gets_half_of_the_cpus(monkeypatch: pytest.MonkeyPatch, cpus: int, workers: int) -> None:
    monkeypatch.setattr(caption_run, "usable_cpus", lambda: cpus)
    assert caption_run.default_workers() == workers


def test_every_auto_is_decided_before_it_is_written_down() -> None:
    assert local_dtype("float32", "cpu") == "float32"
    assert local_dtype("auto", "cpu") in ("float32", "bfloat16")
    with pytest.raises(UsageError, match="--dtype 'int8' is unknown"):
        local_dtype("int8", "cpu")
    with pytest.raises(UsageError, match="--device nonsense is not on this machine"):
        local_dtype("auto", "nonsense")
