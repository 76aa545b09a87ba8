"""The caption that most others agree with, against CIDEr-D written as a loop; and the whole way to a row."""

import math
from collections import Counter
from pathlib import Path

import pytest

from evlgen.captioners.protocol import Caption
from evlgen.captioning import CaptionRequest, caption_videos
from evlgen.captioning.backoff import by_consensus
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from tests.captioning import fakes

POOL = ["a cat sleeps", "a dog runs in the snow", "a dog runs", "a dog runs in the snow", "the dog is running fast"]


def similarity(one: str, other: str) -> float:
    """CIDEr-D of a caption and one reference, divided by 10, every n-gram weighted alike (arXiv 1411.5726)."""
    total = 0.0
    for n in range(1, 5):
        grams = [Counter(tuple(w[i : i + n]) for i in range(len(w) - n + 1)) for w in (one.split(), other.split())]
        norms = [math.sqrt(sum(count**2 for count in each.values())) for each in grams]
        if all(norms):
            total += sum(min(c, grams[1][g]) * grams[1][g] for g, c in grams[0].items()) / math.prod(norms)
    return total / 4 * math.exp(-((len(one.split()) - len(other.split())) ** 2) / (2 * 6**2))


def agreement(place: int) -> float:
    others = [text for number, text in enumerate(POOL) if number != place]
    return sum(similarity(POOL[place], other) for other in others) / len(others)


def test_captions_are_ordered_by_what_they_have_in_common() -> None:
    first, *others = (Caption(text, -float(n), 3, tags=()) for n, text in enumerate(POOL))
    tagged = Caption(first.text, first.log_probability, 3, tuple(others), tags=(("dog", 0.9),))
    alone = Caption("alone", -1.0, 2)
    best, lonely = by_consensus([tagged, alone])
    expected = sorted(range(len(POOL)), key=lambda place: -agreement(place))
    ordered = [best, *best.alternatives]
    assert [one.log_probability for one in ordered] == [-float(place) for place in expected]
    assert [one.agreement for one in ordered] == pytest.approx([agreement(place) for place in expected])
    assert (best.text, best.tags) == ("a dog runs in the snow", (("dog", 0.9),))
    assert (lonely.text, lonely.agreement, lonely.alternatives) == ("alone", 0.0, ())


def test_the_row_holds_the_agreement_and_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sampled(fakes.FakeCaptioner):
        def caption(self, clips, options):  # type: ignore[no-untyped-def]
            assert (options.num_samples, options.rerank) == (4, "consensus")
            first, *others = (Caption(text, -float(n), 3) for n, text in enumerate(POOL))
            return [Caption(first.text, first.log_probability, 3, tuple(others)) for _ in clips]

    fakes.install(monkeypatch.setattr, Sampled())
    fakes.write_video(tmp_path / "v" / "one.mp4")
    options = DecodingOptions(num_samples=4, rerank="consensus")
    caption_videos(CaptionRequest([str(tmp_path / "v")], tmp_path / "out.jsonl", decoding=options))
    (row,) = fakes.rows_of(tmp_path / "out.jsonl")
    assert (row["caption"], row["agreement"]) == ("a dog runs in the snow", round(agreement(1), 4))
    assert [one["caption"] for one in row["alternatives"]][-1] == "a cat sleeps"
    assert all("agreement" in one for one in row["alternatives"])
    assert (row["settings"]["num_samples"], row["settings"]["rerank"]) == (4, "consensus")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            DecodingOptions(rerank="consensus"),
            "--rerank consensus needs 3 captions or more to compare",
        ),
        (DecodingOptions(rerank="best"), "--rerank best is unknown: there is none, consensus"),  # type: ignore[arg-type]
        (DecodingOptions(num_samples=-1), "--num-samples -1 is not 0 to 1000"),
        (DecodingOptions(temperature=0.0), "--temperature 0.0 is not 0.01 to 100"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: DecodingOptions, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        CaptionRequest(["v"], decoding=options)
