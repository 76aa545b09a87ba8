"""The status file: read by json and by Prometheus' own parser; what it says against what was captioned."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evlgen.captioning import CaptionRequest, Listener, caption_videos
from evlgen.captioning.status_file import StatusFile
from evlgen.errors import UsageError

from . import fakes


def samples(path: Path) -> dict[tuple[str, ...], float]:
    """Values by name and labels other than the output."""
    return {
        (one.name, *(value for key, value in one.labels.items() if key != "output")): one.value
        for family in text_string_to_metric_families(path.read_text())
        for one in family.samples
    }


@pytest.fixture
def request_of_seven(tmp_path: Path, videos: Path) -> CaptionRequest:
    fakes.write_video(videos / "z.mp4", "none", fail="decode-error")
    return CaptionRequest([str(videos)], tmp_path / 'out "1".jsonl', batch_size=2)


def test_what_it_says_on_the_way_and_at_the_end(
    tmp_path: Path, request_of_seven: CaptionRequest, captioner: fakes.FakeCaptioner
) -> None:
    path, on_the_way = tmp_path / "status.json", []

    class Reader(Listener):
        def on_row(self, row: Any) -> None:
            on_the_way.append(status.as_dict())

    assert caption_videos(CaptionRequest(request_of_seven.sources, request_of_seven.out, limit=1)).finished == 1
    with StatusFile(path, Reader()) as status:
        assert json.loads(path.read_text())["evlgen_state"] == "starting"
        caption_videos(request_of_seven, status)
    third = on_the_way[2]
    assert (third["evlgen_state"], third["planned"], third["done"], third["not_reached"]) == ("captioning", 6, 3, 3)
    assert third["left_seconds"] == pytest.approx(third["seconds"], abs=0.1)  # as many are left as are done
    said = json.loads(path.read_text())
    assert (said["evlgen_state"], said["ok"], said["done_before"], said["left_seconds"]) == ("done", 5, 1, 0.0)
    assert said["failed"] == {"decode-error": 1}
    assert said["resident_bytes"] is None or said["resident_bytes"] > 10_000_000


def test_prometheus_reads_it(tmp_path: Path, request_of_seven: CaptionRequest, captioner: fakes.FakeCaptioner) -> None:
    path = tmp_path / "status.prom"
    with StatusFile(path, Listener()) as status:
        caption_videos(request_of_seven, status)
    found = samples(path)
    assert found["evlgen_state", "done"] == 1
    assert found["evlgen_videos_captioned", "ok"] == 6
    assert found["evlgen_videos_failed", "decode-error"] == 1
    assert found[("evlgen_videos_left",)] == 0
    (family,) = (one for one in text_string_to_metric_families(path.read_text()) if one.name == "evlgen_videos_left")
    assert family.samples[0].labels == {"output": str(request_of_seven.out)}


def test_it_is_written_by_the_clock(tmp_path: Path) -> None:
    path, written = tmp_path / "status.json", threading.Event()

    class Watched(StatusFile):
        def _write(self) -> None:
            super()._write()
            written.set()

    with Watched(path, Listener(), every_seconds=0.01):
        before = json.loads(path.read_text())["updated"]
        assert written.wait(20)
        assert json.loads(path.read_text())["updated"] >= before


def test_how_it_ends(tmp_path: Path, request_of_seven: CaptionRequest, captioner: fakes.FakeCaptioner) -> None:
    path = tmp_path / "status.json"
    stopper, stop = fakes.stop_after(2)
    with StatusFile(path, stopper) as status:
        caption_videos(request_of_seven, status, stop)
    said = json.loads(path.read_text())
    assert (said["evlgen_state"], said["done"]) == ("interrupted", 2)
    with pytest.raises(ValueError, match="no"), StatusFile(path, Listener()):
        raise ValueError("no")
    assert json.loads(path.read_text()).items() >= {"evlgen_state": "failed", "error": "no"}.items()


def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, request_of_seven: CaptionRequest, captioner: fakes.FakeCaptioner
) -> None:
    notes: list[str] = []
    listener = Listener()
    listener.on_note = notes.append  # type: ignore[method-assign]
    path = tmp_path / "folder" / "status.json"
    with StatusFile(path, listener) as status:
        path.unlink()
        path.mkdir()
        assert caption_videos(request_of_seven, status).finished == 7
    (note,) = notes
    assert note.startswith(f"warning: the status file is not up to date: {path} cannot be written")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected .json, or .prom for Prometheus"):
        StatusFile(tmp_path / "captions.jsonl", Listener())
    (tmp_path / "annotations.json").write_text("{}")
    with pytest.raises(UsageError, match="exists and is no status file; nothing was changed"):
        StatusFile(tmp_path / "annotations.json", Listener())
    for name in ("a.json", "a.prom"):  # its own are
        for _ in range(2):
            with StatusFile(tmp_path / name, Listener()):
                pass
