"""Two workers on a Ray cluster of this machine make what one process makes; the models and decoders are the fakes.

A cluster takes its time to start, so these tests are slow; how work is shared is tested without one.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evlgen.captioning import CaptionRequest, Listener, caption_videos, ray_engine
from evlgen.captioning.items import Video
from evlgen.errors import UsageError
from tests.video.web_server import serving

from . import fakes

ROOT = Path(__file__).parents[2]


class FakeWorker(ray_engine.Worker):
    """With the fakes, in a process that never saw them; what is called "killer" kills it."""

    def __init__(self, *arguments: Any) -> None:
        fakes.install(setattr, fakes.FakeCaptioner())
        super().__init__(*arguments)

    def _caption(self, chunk: Any) -> Any:
        for said in super()._caption(chunk):
            if said[0] == "row" and said[2].video.startswith("killer"):
                os.kill(os.getpid(), signal.SIGKILL)
            yield said


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray.data", reason="needs Ray: pip install 'evlgen[ray]'") and pytest.importorskip("ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()


def captions(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by video, without the time they took; each video once."""
    rows = fakes.rows_of(path)
    assert len({row["video"] for row in rows}) == len(rows)
    return {row["video"]: {key: value for key, value in row.items() if key != "seconds"} for row in rows}


@pytest.mark.slow
def test_two_workers_make_what_one_process_makes(
    cluster: None, tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "Worker", FakeWorker)
    for number in range(30):
        fakes.write_video(videos / f"more{number}.mp4")
    fakes.write_video(videos / "broken.mp4", fail="decode-error")
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    caption_videos(CaptionRequest([str(videos)], whole))

    stopper, stop = fakes.stop_after(3)
    request = CaptionRequest([str(videos)], out)
    first = ray_engine.caption_on_ray(request, stopper, stop, processes=2)
    assert first.interrupted
    assert first.finished == len(fakes.rows_of(out)) < 37
    before = out.read_bytes()
    second = ray_engine.caption_on_ray(request, Listener(), processes=2)
    assert (first.finished + second.finished, second.interrupted) == (37, False)
    assert out.read_bytes().startswith(before)
    assert captions(out) == captions(whole)
    assert ray_engine.caption_on_ray(request, Listener(), processes=2).planned == 0


@pytest.mark.slow
def test_workers_fetch_what_is_elsewhere(
    cluster: None, tmp_path: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "Worker", FakeWorker)
    for name in "abcdef":
        fakes.write_video(tmp_path / "web" / f"{name}.mp4")
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    with serving(tmp_path / "web") as server:
        server.answers = {"/c.mp4": [403] * 9}
        addresses = [f"{server.address}/{name}.mp4?sig=s3cr3t" for name in "abcdef"]
        caption_videos(CaptionRequest(addresses, whole))
        ray_engine.caption_on_ray(CaptionRequest(addresses, out), Listener(), processes=2)
        assert captions(out) == captions(whole)
        assert ray_engine.caption_on_ray(CaptionRequest(addresses, out), Listener(), processes=2).planned == 0
    assert captions(out)[f"{server.address}/c.mp4"]["error"]["kind"] == "not-fetched"
    assert "s3cr3t" not in out.read_text()


@pytest.mark.slow
def test_a_video_that_kills_its_worker_costs_its_own_row(
    cluster: None, tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "Worker", FakeWorker)
    for name in ("killer.mp4", *(f"more{number}.mp4" for number in range(18))):
        fakes.write_video(videos / name)
    out = tmp_path / "out.jsonl"
    request = CaptionRequest([str(videos)], out)
    summary = ray_engine.caption_on_ray(request, Listener(), processes=2)
    assert (summary.ok, summary.failed) == (24, {"crashed": 1})
    row = captions(out)["killer.mp4"]
    assert row["error"]["message"].startswith("the worker that captioned it died, each time")
    assert ray_engine.caption_on_ray(request, Listener(), processes=2).planned == 0, "it counts as done"


def test_how_a_cluster_is_shared() -> None:
    small, large, head = {"CPU": 8.0}, {"CPU": 32.0, "GPU": 4.0}, {"CPU": 4.0}
    share = ray_engine.share_out
    assert share([small, small], "auto", None) == ray_engine.Share(2, 8, 0)
    assert share([small, small], "cpu", 6) == ray_engine.Share(6, 2, 0)
    assert share([large, large, head], "auto", None) == ray_engine.Share(8, 8, 1)
    assert share([large], "cuda:3", 2) == ray_engine.Share(2, 8, 1)
    with pytest.raises(UsageError, match="the Ray cluster has 4 GPUs"):
        share([large], "auto", 5)
    with pytest.raises(UsageError, match="the Ray cluster has no GPU"):
        share([small], "cuda", None)


def test_what_is_about_one_file_stays_together() -> None:
    one, other = Path("a.mp4"), Path("b.mp4")
    items = [Video("a.mp4", one), Video("b.mp4#1", other), Video("b.mp4#2", other), Video("b.mp4#3", other)]
    chunks = ray_engine._chunks(dict(enumerate(items)), 2)
    assert [[number for number, _ in chunk] for chunk in chunks] == [[0, 1, 2, 3]]
    assert [len(chunk) for chunk in ray_engine._chunks(dict(enumerate(items)), 1)] == [1, 3]


def test_it_needs_an_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--engine ray needs --out"):
        ray_engine.caption_on_ray(CaptionRequest([str(tmp_path)]))
