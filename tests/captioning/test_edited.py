"""What a person wrote is never captioned again, whatever changes; the journal stays append-only."""

import json
from pathlib import Path

from evlgen.captioning import CaptionRequest, caption_videos, plan_captions
from evlgen.captioning.caption_rows import EditedRow
from evlgen.captioning.journal import Journal
from evlgen.decoding_options import DecodingOptions

from . import fakes


def test_an_edited_caption_stays(videos: Path, captioner: fakes.FakeCaptioner, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    caption_videos(CaptionRequest([str(videos)], out))
    before = fakes.rows_of(out)
    with Journal(out) as journal:
        journal.append(EditedRow.by_hand(before[1], "mine"))
    fakes.write_video(videos / "clip2.mp4", "another content")
    for request in (
        CaptionRequest([str(videos)], out),
        CaptionRequest([str(videos)], out, model="other", decoding=DecodingOptions(num_beams=5)),
        CaptionRequest([str(videos)], out, retry_failed=True),
    ):
        summary = caption_videos(request)
        assert summary.edited == 1
        assert summary.complete
    rows = fakes.rows_of(out)
    assert rows[:6] == before
    mine = rows[6]
    assert [row for row in rows if row["video"] == "clip2.mp4"] == [before[1], mine]
    assert (mine["caption"], mine["edited"], mine["status"], mine["error"]) == ("mine", True, "ok", None)
    assert (mine["log_probability"], mine["duration_seconds"]) == (None, 2.0)
    plan = plan_captions(CaptionRequest([str(videos)], out))
    assert [one.decision.value for one in plan.items if one.item.name == "clip2.mp4"] == ["edited by hand"]


def test_a_failure_that_a_person_captions(videos: Path, captioner: fakes.FakeCaptioner, tmp_path: Path) -> None:
    fakes.write_video(videos / "clip1.mp4", fail="timeout")
    out = tmp_path / "out.jsonl"
    assert not caption_videos(CaptionRequest([str(videos)], out)).complete
    with Journal(out) as journal:
        journal.append(EditedRow.by_hand(json.loads(out.read_bytes().splitlines()[0]), "mine"))
    assert caption_videos(CaptionRequest([str(videos)], out, retry_failed=True)).complete
