"""Times side by side, and `evlgen bench` as a user types it, on a tiny checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from evlgen.bench import (
    BenchRequest,
    CurveData,
    bench,
    benchmark,
    parse_baselines,
    parse_numbers,
    parse_r,
    read_report,
)  # fmt: skip
from evlgen.bench.parameters import MemoryBytes
from evlgen.bench.timing import CaptionTimes, ConnectorTimes, TimeLimits, Times, in_turn, time_captions
from evlgen.bench.variants import variants
from evlgen.errors import UsageError, VideoError
from evlgen_cli.commands.bench import _show, _show_times
from evlgen_cli.exits import Exit
from evlgen_cli.human_numbers import human_flops
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.data.media_files import clip
from tests.modeling.conftest import KINDS, TINY_CNN, tiny_config, tiny_model, with_connector


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tiny_model().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_variants_take_turns_and_ratios_are_of_a_round() -> None:
    """The machine is four times as slow in the second round: medians wander, ratios do not."""
    order: list[str] = []
    slow = iter([100.0, 1.0, 4.0, 1.0])  # the first round does not count
    now = [0.0]

    def variant(name: str, seconds: float) -> Callable[[], list[float]]:
        def run() -> list[float]:
            if len(order) % 2 == 0:
                now[0] = next(slow)
            order.append(name)
            return [seconds * now[0]]

        return run

    told: list[tuple[int, int]] = []
    times = in_turn({"a": variant("a", 6.0), "b": variant("b", 2.0)}, TimeLimits(3), lambda *done: told.append(done))
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert times["a"] == [Times(6.0, pytest.approx(np.percentile([6, 24, 6], 95)), 6.0, 24.0, 1.0, 3)]
    assert times["b"] == [Times(2.0, pytest.approx(2.0 + 0.9 * 6.0), 2.0, 8.0, 3.0, 3)]  # 0.95 of the way to the third
    assert told[-1] == (4, 4)


def test_no_round_begins_when_the_time_is_over() -> None:
    """A slow machine measures less instead of longer; the first round, which does not count, is on the clock too."""
    now = [0.0]

    def once() -> list[float]:
        now[0] += 10
        return [10.0]

    for seconds, rounds in ((5, 1), (20, 1), (25, 2), (1000, 5)):
        told: list[tuple[int, int]] = []
        now[0] = 0.0
        limits = TimeLimits(5, seconds)
        times = in_turn({"a": once}, limits, lambda *done, told=told: told.append(done), lambda: now[0])
        assert times["a"][0].rounds == rounds
        assert told[-1] == (rounds + 1, rounds + 1)


def test_captions_are_timed_at_every_r_and_the_model_stays_as_it_was() -> None:
    model = tiny_model()
    seen: list[tuple[int, int]] = []
    generate = model.generate

    def watched(pixels, **options):  # type: ignore[no-untyped-def]
        seen.append((len(pixels), model.connector.encoder.layers[0].r))
        output = generate(pixels, **options)
        assert output.sequences.shape[1] == 3
        return output

    model.generate = watched  # type: ignore[method-assign]
    compared = variants(model.config, (0, 1))
    found = time_captions(model, compared, batch=2, new_tokens=3, limits=TimeLimits(1), tell=lambda *told: None)
    assert seen == [(2, 1), (2, 0), (2, 0), (2, 1)]
    assert [(one.name, one.batch) for one in found] == [("r=0", 2), ("r=1", 2)]
    assert [layer.r for layer in model.connector.encoder.layers] == [2, 2]


def test_phases_are_all_of_a_caption(tmp_path: Path) -> None:
    """Decoding and temporal modules are phases where there are any; one round, so that medians add up."""
    (tmp_path / "clip.mp4").write_bytes(clip([10, 90, 170, 250]))
    model = tiny_model(tiny_config(TINY_CNN, "temporal", protect_first=False))
    compared = variants(model.config, ("0",), ())
    (found,) = time_captions(
        model,
        compared,
        batch=2,
        new_tokens=2,
        limits=TimeLimits(1),
        tell=lambda *told: None,
        video=tmp_path / "clip.mp4",
    )
    assert list(found.phases) == ["decode", "vision", "temporal", "connector", "prefill", "steps"]
    seconds = [times.median_seconds for times in found.phases.values()]
    assert min(seconds) > 0
    assert found.caption.median_seconds == pytest.approx(sum(seconds))
    with pytest.raises(VideoError):
        time_captions(
            model,
            compared,
            batch=1,
            new_tokens=2,
            limits=TimeLimits(1),
            tell=lambda *told: None,
            video=tmp_path / "no.mp4",
        )


def test_what_is_not_there_is_told_before_anything_is_measured(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evlgen.bench.benchmark.bench_model", None)
    with pytest.raises(UsageError, match=r"no such file: .*no.mp4"):
        bench(BenchRequest(models=(str(checkpoint),), video=tmp_path / "no.mp4"), lambda *told: None)
    (tmp_path / "set.csv").write_text("video,caption,split\na.mp4,a dog,test\n")
    data = CurveData(tmp_path / "set.csv", tmp_path, "val")
    with pytest.raises(UsageError, match="val"):
        bench(BenchRequest(models=(str(checkpoint),), data=data), lambda *told: None)
    with pytest.raises(UsageError, match=r"no such file: .*no.json"):
        read_report(tmp_path / "no.json")


def test_r() -> None:
    assert parse_r("16") == ("0", "16")
    assert parse_r("19, 0,8,8") == ("0", "8", "19")
    assert parse_r("[8, -0.5],8,[10,8,8],[8,-0.5]") == ("0", "8", "[8,-0.5]", "[10,8,8]")
    for bad in ("", "1,", "-1", "2.5", "a", "true", "{}"):
        with pytest.raises(UsageError, match="is not a list of numbers of tokens"):
            parse_r(bad)


def test_numbers_and_baselines() -> None:
    assert parse_numbers("8, 1", "--caption-batch") == (8, 1)
    for bad in ("", "0", "1,x", "-1"):
        with pytest.raises(UsageError, match=r"--caption-batch .* is not a list of numbers"):
            parse_numbers(bad, "--caption-batch")
    assert parse_baselines("pool, random") == ("random", "pool")
    assert parse_baselines("all") == ("random", "stride", "pool", "small", "frames")
    with pytest.raises(UsageError, match="--baselines 'merge' is unknown"):
        parse_baselines("random,merge")


def test_flops_as_people_read_them() -> None:
    assert [human_flops(n) for n in (12, 1_234_567, 47_660_000_000, 7_516_000_000_000, 2e15)] == [
        "12 FLOP", "1.23 MFLOP", "47.7 GFLOP", "7.52 TFLOP", "2000 TFLOP",
    ]  # fmt: skip


@pytest.mark.slow
def test_counts_are_shown_before_anything_is_timed_and_rows_as_they_come(
    checkpoint: Path,
    cli: Callable[..., Result],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a machine that is stopped in the middle has shown; every line fits a terminal of 80 columns."""
    real = benchmark.time_captions

    def stopped(model: Any, compared: Any, *, batch: int, **rest: Any) -> Any:
        if batch > 1:
            raise KeyboardInterrupt
        return real(model, compared, batch=batch, **rest)

    monkeypatch.setattr(benchmark, "time_captions", stopped)
    options = ["--r", "2", "--rounds", "1", "--batch", "1", "--new-tokens", "3", "--device", "cpu"]
    shown = cli("bench", "--model", checkpoint, *options)
    assert shown.exit_code == Exit.INTERRUPTED
    assert "warning" not in shown.stderr
    assert shown.stdout.splitlines()[:3] == [
        f"{checkpoint}: checkpoint in {checkpoint}",
        "one item: 3 frames of 10 tokens; trained on a caption of 32 tokens,",
        "or captioned greedily with 3",
    ]
    counts, flops = shown.stdout.split("FLOPs of one item")
    counted = {line.split()[0]: line.split() for line in counts.splitlines() if line.startswith(("r=", "q-former"))}
    assert (counted["r=0"][1], counted["r=0"][3:]) == ("10", ["10", "10"])
    assert (counted["r=2"][1], counted["r=2"][3:]) == ("6", ["8", "6"])
    assert (counted["q-former"][1], counted["q-former"][3:]) == ("32", ["32"])
    assert flops.splitlines()[3].split()[0] == "q-former"
    times = flops.splitlines()[5:]
    heads = [line.split() for line in times if "p95" in line]
    assert heads == [
        "forward backward all p95 as fast".split(),
        "vision connector prefill steps all p95 as fast".split(),
    ]
    rows = [line.split("  ")[0] for line in times if line and "p95" not in line]
    assert rows == [
        "connector, training, rounds: 1", "r=0", "r=2", "q-former", "captions, 1 at once, rounds: 1", "r=0", "r=2",
    ]  # fmt: skip
    assert max(len(line) for line in shown.stdout.splitlines() if str(checkpoint) not in line) <= 80


def test_full_size_counts_fit_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    work = SimpleNamespace(total=9_907_500_000_000)
    connector = SimpleNamespace(
        name="q-former", soft_prompts=257, parameters=107_130_000, tokens_per_layer=(257,) * 12,
        connector=9_907_500_000_000, step=work, caption=work,
    )  # fmt: skip
    model = SimpleNamespace(
        name="m", what="w", frames=4, visual_tokens=257, text_tokens=32, new_tokens=20, connectors=[connector],
        parameters=[SimpleNamespace(part="LayerNorm and projections", trained=3_050_000, frozen=13_015_860_000)],
        memory=MemoryBytes(28_000_000_000, 360_000_000, 360_000_000, 720_000_000),
    )  # fmt: skip
    _show(model)  # type: ignore[arg-type]
    slow = Times(999.5, 999.5, 1.0, 999.5, 12.34, 5)
    _show_times([ConnectorTimes("stride r=19", slow, slow, slow)])
    quick = Times(0.123, 0.123, 0.1, 0.2, 12.34, 5)
    _show_times(
        [CaptionTimes("random r=19", 8, dict.fromkeys(("vision", "connector", "prefill", "steps"), quick), quick)]
    )
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 80, max(shown, key=len)


def test_json_says_what_was_run_on_what(checkpoint: Path, cli: Callable[..., Result]) -> None:  # noqa: F811
    arguments = ["--r", "2", "--rounds", "1", "--batch", "1", "--caption-batch", "2", "--new-tokens", "3", "--json"]
    shown = cli("bench", "--model", checkpoint, *arguments, "--device", "cpu")
    assert shown.exit_code == Exit.OK, shown.stderr
    result = json.loads(shown.stdout)
    assert result["request"]["r"] == ["0", "2"]
    assert {"system", "torch", "cores", "threads", "device"} <= result["machine"].keys()
    (model,) = result["models"]
    assert [one["name"] for one in model["connector_times"]] == ["r=0", "r=2", "q-former"]
    assert [(one["name"], one["batch"]) for one in model["caption_times"]] == [
        ("r=0", 1), ("r=2", 1), ("r=0", 2), ("r=2", 2),
    ]  # fmt: skip
    assert all(one["caption"]["median_seconds"] > 0 for one in model["caption_times"])
    assert model["not_timed"] == ""


def test_a_connector_that_merges_nothing_is_measured_as_it_is(
    tmp_path: Path,
    cli: Callable[..., Result],  # noqa: F811
) -> None:
    model = tiny_model(with_connector(tiny_config(), **KINDS["mlp"]))
    model.save_pretrained(tmp_path / "mlp")
    options = ["--rounds", "1", "--batch", "1", "--caption-batch", "1", "--new-tokens", "3", "--device", "cpu"]
    shown = cli("bench", "--model", tmp_path / "mlp", *options)
    assert shown.exit_code == Exit.OK, shown.stderr
    rows = [line.split() for line in shown.stdout.splitlines() if line.startswith("mlp ")]
    assert rows[0] == ["mlp", "6", str(2 * 32 + (32 * 24 + 24) + (24 * 32 + 32)), "6"]
    assert len(rows) == 4  # of prompts, of FLOPs, of the connector's times and of a caption's
    assert "timed" in shown.stdout
    counted = cli("bench", "--model", tmp_path / "mlp", "--no-time")
    assert counted.exit_code == Exit.OK
    assert "timed" not in counted.stdout
    refused = cli("bench", "--model", tmp_path / "mlp", "--r", "2")
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr == (
        f"error: --r and --model {tmp_path / 'mlp'}: the connector is of kind mlp, which merges no tokens (one of kind "
        "tomeformer does)\n"
    )


def test_unknown_model_is_one_line(cli: Callable[..., Result]) -> None:  # noqa: F811
    shown = cli("bench", "--model", "evlgen-mimi")
    assert shown.exit_code == Exit.USAGE
    assert shown.stderr == "error: no model 'evlgen-mimi' (did you mean 'evlgen-mini'?)\n"
