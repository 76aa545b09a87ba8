"""VQAv2 (arXiv 1612.00837), OK-VQA (arXiv 1906.00067) and GQA (arXiv 1902.09506): questions about pictures.

The first two ask about COCO's pictures, which may lie in the root or beside it in coco/.
"""

from __future__ import annotations

from evlgen.data.datasets.description import Layout, PublishedSet, Split, media, places

_FOLDERS = ("", "questions", "Questions", "annotations", "Annotations")


def _coco(folder: str) -> tuple[str, ...]:
    return (folder, f"images/{folder}", f"../coco/{folder}", f"../coco/images/{folder}", f"coco/{folder}", "images")


def _vqa(name: str, items: int, prefix: str, folder: str) -> Split:
    annotations = f"{prefix}mscoco_{folder}_annotations.json"
    layout = Layout(
        captions=places(f"{prefix}OpenEnded_mscoco_{folder}_questions.json", folders=_FOLDERS),
        media=media(*_coco(folder)),
        answers=places(annotations, folders=_FOLDERS),
    )
    return Split(name, items, None, (layout,))


def _unanswered(name: str, items: int, subset: str, note: str) -> Split:
    questions = places(f"v2_OpenEnded_mscoco_{subset}_questions.json", folders=_FOLDERS)
    return Split(name, items, None, (Layout(questions, media(*_coco("test2015"))),), optional=True, note=note)


VQAV2 = PublishedSet(
    name="vqav2",
    title="VQAv2",
    paper="arXiv 1612.00837",
    task="questions",
    media="pictures",
    terms="questions and answers CC BY 4.0; pictures of COCO",
    splits=(
        _vqa("train", 443_757, "v2_", "train2014"),
        _vqa("val", 214_354, "v2_", "val2014"),
        _unanswered("test-dev", 107_394, "test-dev2015", "no answers"),
        _unanswered("test", 447_793, "test2015", "no answers"),
    ),
    sources=((".json", "visualqa.org/download.html"), ("", "cocodataset.org/#download")),
)

OKVQA = PublishedSet(
    name="okvqa",
    title="OK-VQA",
    paper="arXiv 1906.00067",
    task="questions",
    media="pictures",
    terms="questions and answers CC BY 4.0; pictures of COCO",
    splits=(_vqa("train", 9009, "", "train2014"), _vqa("val", 5046, "", "val2014")),
    sources=((".json", "okvqa.allenai.org/download.html"), ("", "cocodataset.org/#download")),
)


def _gqa(name: str, items: int, *, optional: bool = False, note: str = "") -> Split:
    folders = ("", "questions1.2", "questions", "annotations")
    layout = Layout(places(f"{name}_balanced_questions.json", folders=folders), media("images", "allImages/images"))
    return Split(name, items, None, (layout,), optional=optional, note=note)


GQA = PublishedSet(
    name="gqa",
    title="GQA",
    paper="arXiv 1902.09506",
    task="questions",
    media="pictures",
    terms="questions CC BY 4.0; pictures of Visual Genome",
    splits=(
        _gqa("train", 943_000, note="balanced"),
        _gqa("val", 132_062, note="balanced"),
        _gqa("testdev", 12_578, note="balanced"),
        _gqa("test", 95_336, optional=True, note="balanced, no answers"),
    ),
    sources=(("", "cs.stanford.edu/people/dorarad/gqa/download.html"),),
)
