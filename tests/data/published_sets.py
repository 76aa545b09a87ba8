"""Miniatures of the published data sets, as people have them on disk; all of their content is made up here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evlgen.data.datasets.set_check import SetCheck
from tests.data.media_files import clip, jpg

MSVD_TRAIN, MSVD_VAL, MSVD_TEST = "mv89psg6zh4_33_46", "-4wsuPCjDBc_5_15", "04Gt01vatkk_248_265"
VATEX_CLIPS = {
    "train": "Ptf_2VRj-V0_000122_000132",
    "val": "abcdefghijk_000001_000011",
    "test": "-__-__-__-_000000_000010",
}
COCO_TRAIN = "COCO_train2014_000000000009.jpg"
COCO_VAL = [f"COCO_val2014_{number:012d}.jpg" for number in (42, 73, 74)]


def write(path: Path, content: Any) -> None:
    """A file of bytes, of text, or of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def msrvtt(root: Path) -> None:
    """Two videos to train on, one to validate on, one to test on."""

    def info(videos: dict[str, tuple[str, list[str]]]) -> dict[str, Any]:
        texts = [(name, text) for name, (_, captions) in videos.items() for text in captions]
        return {
            "info": {"year": "2016"},
            "videos": [{"video_id": name, "split": split, "category": 1} for name, (split, _) in videos.items()],
            "sentences": [{"sen_id": n, "video_id": name, "caption": text} for n, (name, text) in enumerate(texts)],
        }

    train_val = {"video0": ("train", ["a", "b"]), "video1": ("train", ["c"]), "video2": ("validate", ["d", "e"])}
    write(root / "train_val_videodatainfo.json", info(train_val))
    write(root / "test_videodatainfo.json", info({"video3": ("test", ["f"])}))
    for name in train_val:
        write(root / "TrainValVideo" / f"{name}.mp4", clip([0, 99]))
    write(root / "TestVideo" / "video3.mp4", clip([0, 99]))


def msvd(root: Path) -> None:
    """One clip of each split, with the official list of numbers."""
    lines = [f"{MSVD_TRAIN} a bird sings", f"{MSVD_VAL} a man runs", f"{MSVD_TRAIN} it sings", f"{MSVD_TEST} a dog #1"]
    write(root / "AllVideoDescriptions.txt", "\n".join(["# descriptions", "", *lines, ""]))
    numbers = {MSVD_TRAIN: 1, MSVD_VAL: 1300, MSVD_TEST: 1301}
    write(root / "youtube_mapping.txt", "".join(f"{name} vid{number}\n" for name, number in numbers.items()))
    for name in numbers:
        write(root / "YouTubeClips" / f"{name}.avi", clip([0, 99], form="avi"))


def vatex(root: Path) -> None:
    """One clip of each split, each in a folder of its own."""
    files = {"train": "training_v1.0", "val": "validation_v1.0", "test": "public_test_english_v1.1"}
    for split, name in VATEX_CLIPS.items():
        write(root / f"vatex_{files[split]}.json", [{"videoID": name, "enCap": ["x", "y"], "chCap": ["z"]}])
        write(root / split / f"{name}.mp4", clip([0, 99]))


def coco(root: Path) -> None:
    """Karpathy's file; one picture of train2014, three of val2014, one of them in restval."""
    images: list[dict[str, Any]] = [
        {"filepath": "train2014", "filename": COCO_TRAIN, "cocoid": 9, "split": "train"},
        {"filepath": "val2014", "filename": COCO_VAL[0], "cocoid": 42, "split": "restval"},
        {"filepath": "val2014", "filename": COCO_VAL[1], "cocoid": 73, "split": "val"},
        {"filepath": "val2014", "filename": COCO_VAL[2], "cocoid": 74, "split": "test"},
    ]  # fmt: skip
    for image in images:
        image["sentences"] = [{"raw": f"{image['split']} one"}, {"raw": f"{image['split']} two"}]
        write(root / str(image["filepath"]) / str(image["filename"]), jpg(80))
    write(root / "dataset_coco.json", {"images": images, "dataset": "coco"})


def flickr30k(root: Path) -> None:
    """Karpathy's file, a picture of each split."""
    images = [
        {"filename": f"{number}.jpg", "split": split, "sentences": [{"raw": "a"}, {"raw": "b"}]}
        for number, split in ((36979, "train"), (65567, "val"), (81641, "test"))
    ]
    write(root / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    for image in images:
        write(root / "flickr30k-images" / str(image["filename"]), jpg(80))


def nocaps(root: Path) -> None:
    """Two pictures of two domains."""
    names = {"0013ea2087020901": "near-domain", "0a1b2c3d4e5f6071": "out-domain"}
    images = [{"id": n, "file_name": f"{name}.jpg", "domain": names[name]} for n, name in enumerate(names)]
    annotations = [{"id": n, "image_id": n % 2, "caption": text} for n, text in enumerate(("a", "b", "c"))]
    write(root / "nocaps_val_4500_captions.json", {"images": images, "annotations": annotations})
    for name in names:
        write(root / "val" / f"{name}.jpg", jpg(80))


def _vqa(root: Path, prefix: str, split: str, questions: dict[int, tuple[int, str, list[str]]]) -> None:
    asked = [{"question_id": key, "image_id": image, "question": text} for key, (image, text, _) in questions.items()]
    answered = [
        {"question_id": key, "image_id": image, "multiple_choice_answer": found[0],
         "answers": [{"answer": one, "answer_id": n} for n, one in enumerate(found, start=1)]}
        for key, (image, _, found) in questions.items()
    ]  # fmt: skip
    head = {"data_type": "mscoco", "data_subtype": split}
    write(root / f"{prefix}OpenEnded_mscoco_{split}_questions.json", {**head, "questions": asked})
    write(root / f"{prefix}mscoco_{split}_annotations.json", {**head, "annotations": answered})


def vqav2(root: Path) -> None:
    """One question to train on, two about one picture to evaluate on; the pictures are in the root."""
    _vqa(root, "v2_", "train2014", {9000: (9, "Is it?", ["yes", "no"])})
    _vqa(root, "v2_", "val2014", {42001: (42, "What?", ["net", "net"]), 42002: (42, "Why?", ["fun", "joy"])})
    write(root / "train2014" / COCO_TRAIN, jpg(80))
    write(root / "val2014" / COCO_VAL[0], jpg(80))


def okvqa(root: Path) -> None:
    """One question a split; the pictures are in coco/ beside the root."""
    _vqa(root, "", "train2014", {97: (9, "Which?", ["race", "motocross"])})
    _vqa(root, "", "val2014", {421: (42, "Who?", ["pilot"])})
    write(root.parent / "coco" / "train2014" / COCO_TRAIN, jpg(80))
    write(root.parent / "coco" / "val2014" / COCO_VAL[0], jpg(80))


def gqa(root: Path) -> None:
    """A question a split, and one about a picture that has two."""
    for split, keys in {"train": ["02930152"], "val": ["05451384"], "testdev": ["20968379", "20968380"]}.items():
        content = {
            key: {
                "imageId": f"n{split}",
                "question": f"Is it {key}?",
                "answer": "no",
                "types": {"structural": "verify"},
            }
            for key in keys
        }
        write(root / "questions1.2" / f"{split}_balanced_questions.json", content)
        write(root / "images" / f"n{split}.jpg", jpg(80))


SETS: dict[str, Callable[[Path], None]] = {
    "msrvtt": msrvtt, "msvd": msvd, "vatex": vatex, "coco": coco, "flickr30k": flickr30k, "nocaps": nocaps,
    "vqav2": vqav2, "okvqa": okvqa, "gqa": gqa,
}  # fmt: skip

WHOLE: dict[str, dict[str, tuple[str, int, int, str, int, int]]] = {
    "msrvtt": {
        "train": ("train_val_videodatainfo.json", 2, 3, "TrainValVideo", 2, 2),
        "val": ("train_val_videodatainfo.json", 1, 2, "TrainValVideo", 1, 1),
        "test": ("test_videodatainfo.json", 1, 1, "TestVideo", 1, 1),
    },
    "msvd": {
        "train": ("AllVideoDescriptions.txt", 1, 2, "YouTubeClips", 1, 1),
        "val": ("AllVideoDescriptions.txt", 1, 1, "YouTubeClips", 1, 1),
        "test": ("AllVideoDescriptions.txt", 1, 1, "YouTubeClips", 1, 1),
    },
    "vatex": {
        "train": ("vatex_training_v1.0.json", 1, 2, "train", 1, 1),
        "val": ("vatex_validation_v1.0.json", 1, 2, "val", 1, 1),
        "test": ("vatex_public_test_english_v1.1.json", 1, 2, "test", 1, 1),
    },
    "coco": {
        "train": ("dataset_coco.json", 2, 4, ".", 2, 2),
        "val": ("dataset_coco.json", 1, 2, ".", 1, 1),
        "test": ("dataset_coco.json", 1, 2, ".", 1, 1),
    },
    "flickr30k": {
        "train": ("dataset_flickr30k.json", 1, 2, "flickr30k-images", 1, 1),
        "val": ("dataset_flickr30k.json", 1, 2, "flickr30k-images", 1, 1),
        "test": ("dataset_flickr30k.json", 1, 2, "flickr30k-images", 1, 1),
    },
    "nocaps": {"val": ("nocaps_val_4500_captions.json", 2, 3, "val", 2, 2)},
    "vqav2": {
        "train": ("v2_OpenEnded_mscoco_train2014_questions.json", 1, 2, "train2014", 1, 1),
        "val": ("v2_OpenEnded_mscoco_val2014_questions.json", 2, 4, "val2014", 1, 1),
    },
    "okvqa": {
        "train": ("OpenEnded_mscoco_train2014_questions.json", 1, 2, "../coco/train2014", 1, 1),
        "val": ("OpenEnded_mscoco_val2014_questions.json", 1, 1, "../coco/val2014", 1, 1),
    },
    "gqa": {
        "train": ("questions1.2/train_balanced_questions.json", 1, 1, "images", 1, 1),
        "val": ("questions1.2/val_balanced_questions.json", 1, 1, "images", 1, 1),
        "testdev": ("questions1.2/testdev_balanced_questions.json", 2, 2, "images", 1, 1),
    },
}
"""What a check finds of each, worked out by hand: the facts of every split."""


def facts(done: SetCheck) -> dict[str, tuple[str, int, int, str, int, int]]:
    """Split -> captions file, items, texts, media, files, found."""
    return {s.split: (s.file, s.items, s.texts, s.media, s.files, s.found) for s in done.splits}


def faults(done: SetCheck) -> dict[str, list[tuple[str, str]]]:
    """Split -> names and kinds of what is broken."""
    return {s.split: [(b.name, b.kind) for b in s.broken] for s in done.splits if s.broken}
