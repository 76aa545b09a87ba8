"""Parts of a video: scenes against PySceneDetect's own reader, frames of parts against all frames."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from evlgen.errors import UsageError
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Parts, Sampler, Timeline
from evlgen.video.segments import SCENES, WHOLE
from tests.video.video_clips import decode_everything, read_barcode, write_clip


def picture(colour: tuple[int, int, int], number: int) -> np.ndarray:
    """A plain picture in which a small square moves."""
    found = np.full((64, 128, 3), colour, np.uint8)
    found[20:30, number % 100 : number % 100 + 10] = 255 - np.array(colour)
    return found


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames a second: red for 1.6 s, blue for 1.2 s, green for 0.4 s, yellow for 2 s."""
    plan = [((200, 20, 20), 40), ((20, 20, 200), 30), ((20, 200, 20), 10), ((200, 200, 20), 50)]
    pictures = [picture(colour, number) for colour, count in plan for number in range(count)]
    return write_clip(tmp_path_factory.mktemp("cuts") / "cuts.mp4", pictures=pictures)


def times_of(path: Path, backend: str) -> tuple[Fraction, ...]:
    with DecodePool(1, 60, backend) as pool:
        clip = pool.decode(path)
    assert isinstance(clip, ClipFrames), clip
    return clip.timestamps


def test_scenes_are_those_of_the_detectors_own_reader(cuts: Path) -> None:
    scenedetect = pytest.importorskip("scenedetect")
    truth = scenedetect.detect(str(cuts), scenedetect.ContentDetector(min_scene_len=25))
    found = times_of(cuts, SCENES)
    assert [round(float(time), 3) for time in found[:-1]] == [round(start.frame_num / 25, 3) for start, _ in truth]
    assert found[:2] == (0, Fraction(40, 25))
    assert found[-1] == Fraction(130, 25)
    assert times_of(cuts, WHOLE) == (0, Fraction(130, 25))


def test_a_varying_frame_rate_moves_no_cut(cuts: Path, tmp_path: Path) -> None:
    """Red for 20 frames of 0.04 s and 20 of 0.08 s: the cut is where the clock says, not where frames are counted."""
    pictures = [picture((200, 20, 20), n) for n in range(40)] + [picture((20, 20, 200), n) for n in range(30)]
    pts = [*range(20), *(20 + 2 * n for n in range(20)), *(60 + n for n in range(30))]
    path = write_clip(tmp_path / "vfr.mkv", pictures=pictures, pts=pts)
    pytest.importorskip("scenedetect")
    assert times_of(path, SCENES)[1] == pytest.approx(60 / 25, abs=0.002)  # Matroska counts milliseconds


def test_frames_of_parts_are_frames_of_the_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", count=100)
    spans = ((Fraction(0), Fraction(1)), (Fraction(1), Fraction(5, 2)), (Fraction(39, 10), Fraction(9)))
    with DecodePool(1, sampler=Sampler(frames=2)) as pool:
        (clip,) = pool.map([Parts(path, spans)])
    assert isinstance(clip, ClipFrames)
    # middles of halves: 0.25 and 0.75 s; 1.375 and 2.125 s; of the last 0.1 s 3.925 and 3.975 s
    assert clip.indices == (6, 18, 34, 53, 98, 99)
    everything = decode_everything(path)
    assert [read_barcode(frame) for frame in clip.frames] == [read_barcode(everything[i][1]) for i in clip.indices]
    parts = list(clip.parts())
    assert [part.indices for part in parts] == [(6, 18), (34, 53), (98, 99)]
    assert [part.spans for part in parts] == [(span,) for span in spans]
    assert np.array_equal(parts[1].frames, clip.frames[2:4])


def test_a_part_begins_with_what_is_on_display() -> None:
    timeline = Timeline(tuple(Fraction(n) for n in range(10)), Fraction(10), (0, 4, 8))
    first, part = timeline.part(Fraction(7, 2), Fraction(6))
    assert first == 3
    assert part.times == (0, Fraction(1, 2), Fraction(3, 2))
    assert (part.duration, part.keyframes) == (Fraction(5, 2), (1,))
    assert timeline.part(Fraction(50), Fraction(60)) == (9, Timeline((Fraction(0),), Fraction(0)))
    assert timeline.part(Fraction(0), Fraction(10)) == (0, timeline)


def test_parts_need_a_sampler_of_a_fixed_number() -> None:
    with pytest.raises(UsageError, match="parts of a video go with uniform, head-tail, random-spans"):
        Sampler("keyframes", spans=((Fraction(0), Fraction(1)),))


def test_a_failure_names_its_parts(tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_text("no video")
    span = (Fraction(0), Fraction(1))
    with DecodePool(1) as pool:
        (result,) = pool.map([Parts(tmp_path / "none.mp4", (span,))])
    assert isinstance(result, DecodeFailure)
    assert result.spans == (span,)
