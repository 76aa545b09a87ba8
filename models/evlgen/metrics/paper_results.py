"""Rows that the paper published (arXiv 2310.03291, ACL 2024), to be shown beside measured ones, never mixed.

Those models and ours differ in size, data and often in the test set; the rows give a scale, not a ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "published in arXiv 2310.03291 (ACL 2024), not measured here"


@dataclass(frozen=True)
class PublishedTable:
    """One table of the paper.

    Attributes:
        title: what was measured on what.
        columns: names of the scores, in points.
        rows: model and its values; None where the paper gives none.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


_FOUR = ("CIDEr", "BLEU-4", "METEOR", "ROUGE-L")

PUBLISHED: dict[str, PublishedTable] = {
    "msrvtt": PublishedTable(
        "MSR-VTT test, fine-tuned on all of its training videos",
        _FOUR,
        (
            ("baseline (concat)", (65.5, 44.4, 31.9, 64.1)),
            ("baseline (mean)", (67.8, 47.3, 32.2, 65.0)),
            ("EVLGen-image", (68.4, 47.6, 32.4, 65.3)),
            ("EVLGen-video", (69.8, 48.3, 32.6, 65.8)),
            ("EVLGen-video-scst", (74.0, 49.2, 33.0, 66.5)),
            ("Video-LLaMA", (59.3, 47.7, 29.6, 63.7)),
            ("VideoChat", (58.0, 46.5, 29.5, 63.4)),
            ("VideoCoCa (open)", (63.0, 48.5, 31.4, 64.8)),
        ),
    ),
    "nocaps": PublishedTable(
        "NoCaps validation, zero-shot",
        _FOUR,
        (
            ("BLIP-2 (OPT)", (112.2, 44.4, 29.5, 59.7)),
            ("EVLGen (OPT)", (117.4, 45.9, 30.3, 61.1)),
            ("BLIP-2 (Vicuna)", (115.6, 45.3, 30.3, 60.6)),
            ("EVLGen (Vicuna)", (119.0, 45.9, 30.6, 61.5)),
        ),
    ),
    "flickr30k": PublishedTable(
        "Flickr30K, zero-shot",
        _FOUR,
        (
            ("BLIP-2 (OPT)", (77.1, 28.7, 23.9, 51.6)),
            ("EVLGen (OPT)", (82.0, 30.0, 24.5, 52.4)),
            ("BLIP-2 (Vicuna)", (80.0, 30.1, 24.8, 52.1)),
            ("EVLGen (Vicuna)", (81.8, 30.3, 24.5, 52.2)),
        ),
    ),
    "coco": PublishedTable(
        "COCO captions val (OPT-2.7b)",
        ("CIDEr",),
        (
            ("BLIP-2, 104M pairs, 110M+ trained, 250k + 80k steps, 234 h", (137.7,)),
            ("EVLGen, 104M pairs, 55M trained, 90k steps, 47 h", (134.0,)),
            ("EVLGen, 104M pairs, 110M trained, 150k steps, 80 h", (137.0,)),
            ("EVLGen, 104M pairs, 110M trained, 250k steps, 133 h", (139.1,)),
        ),
    ),
    "vqa": PublishedTable(
        "zero-shot VQA (OPT-2.7b for BLIP-2 and EVLGen)",
        ("VQAv2 val", "GQA test-dev", "OK-VQA test"),
        (
            ("VL-T5", (13.5, 6.3, 5.8)),
            ("FewVLM", (47.7, 29.3, 16.5)),
            ("Frozen", (29.6, None, 5.9)),
            ("VLKD", (42.6, None, 13.3)),
            ("BLIP-2, 250k + 80k steps", (44.6, 30.6, 26.0)),
            ("EVLGen, 55M trained, 90k steps", (45.9, 30.6, 25.8)),
            ("EVLGen, 110M trained, 150k steps", (46.9, 30.8, 24.8)),
            ("EVLGen, 110M trained, 250k steps", (48.4, 30.9, 27.2)),
        ),
    ),
}
"""By data set."""

_HINTS = {  # what gives a data set away in a layout's or a file's name
    "msrvtt": ("msrvtt", "msr-vtt", "msr_vtt", "videodatainfo"),
    "nocaps": ("nocaps",),
    "flickr30k": ("flickr30k",),
    "coco": ("coco",),
}


def published_tables(*hints: str, answers: bool = False) -> list[PublishedTable]:
    """The tables that fit: by names of files and layouts where they tell; otherwise every table of captions."""
    if answers:
        return [PUBLISHED["vqa"]]
    text = " ".join(hints).lower()
    for name, words in _HINTS.items():
        if any(word in text for word in words):
            return [PUBLISHED[name]]
    return [table for name, table in PUBLISHED.items() if name != "vqa"]
