"""MSR-VTT (Xu et al., CVPR 2016), MSVD (Chen and Dolan, ACL 2011) and VATEX (arXiv 1904.03493)."""

from __future__ import annotations

from evlgen.annotations.splits import MSVD_LISTS, MSVD_MAPPING
from evlgen.data.datasets.description import Layout, PublishedSet, Split, media, places

_MSRVTT_TRAIN_VAL = places(
    "train_val_videodatainfo.json",
    "MSRVTT_data.json",
    folders=("", "annotations", "annotation", "train_val_annotation"),
)
_MSRVTT_TEST = places(
    "test_videodatainfo.json", "MSRVTT_data.json", folders=("", "annotations", "annotation", "test_annotation")
)
_MSRVTT_ALL = ("all", "videos/all", "MSRVTT_Videos", "videos")
_MSRVTT_TRAIN_VAL_MEDIA = media("TrainValVideo", "train_val_videos", "videos/TrainValVideo", *_MSRVTT_ALL)
_MSRVTT_TEST_MEDIA = media("TestVideo", "test_videos", "videos/TestVideo", *_MSRVTT_ALL)

MSRVTT = PublishedSet(
    name="msrvtt",
    title="MSR-VTT",
    paper="Xu et al., CVPR 2016",
    task="captions",
    media="videos",
    terms="research only; clips of YouTube",
    splits=(
        Split("train", 6513, 130_260, (Layout(_MSRVTT_TRAIN_VAL, _MSRVTT_TRAIN_VAL_MEDIA, "train"),)),
        Split("val", 497, 9940, (Layout(_MSRVTT_TRAIN_VAL, _MSRVTT_TRAIN_VAL_MEDIA, "validate"),)),
        Split("test", 2990, 59_800, (Layout(_MSRVTT_TEST, _MSRVTT_TEST_MEDIA, "test"),)),
    ),
    sources=(
        ("MSRVTT_data", "msrvtt_data.zip of github.com/ArrowLuo/CLIP4Clip, release v0.0"),
        ("videodatainfo", "train_val_annotation.zip and test_videodatainfo.zip of the MSR-VTT 2016 challenge"),
        ("", "train_val_videos.zip and test_videos.zip of the MSR-VTT 2016 challenge; or all/ of MSRVTT.zip of "
         "www.robots.ox.ac.uk/~maxbain/frozen-in-time"),
    ),
)  # fmt: skip

_MSVD = Layout(
    captions=places("AllVideoDescriptions.txt", "video_corpus.csv"),
    media=media("YouTubeClips", "MSVD_Videos", "videos"),
    lists=(MSVD_MAPPING, MSVD_LISTS.format("train")),
)


def _msvd(name: str, items: int) -> Split:
    return Split(name, items, None, (Layout(_MSVD.captions, _MSVD.media, name, _MSVD.lists),))


MSVD = PublishedSet(
    name="msvd",
    title="MSVD",
    paper="Chen and Dolan, ACL 2011",
    task="captions",
    media="videos",
    terms="research only; clips of YouTube",
    splits=(_msvd("train", 1200), _msvd("val", 100), _msvd("test", 670)),
    sources=(
        (MSVD_MAPPING, "vsubhashini.github.io/s2vt.html"),
        ("_list.txt", "msvd_data.zip of github.com/ArrowLuo/CLIP4Clip, release v0.0"),
        ("video_corpus", "www.microsoft.com/en-us/download/details.aspx?id=52422"),
        ("", "www.cs.utexas.edu/users/ml/clamp/videoDescription (YouTubeClips.tar, AllVideoDescriptions.txt)"),
    ),
)


def _vatex(name: str, items: int, file: str, *folders: str) -> Split:
    shared = ("trainval", "videos", "all", "clips")
    return Split(name, items, items * 10, (Layout(places(file), media(*folders, *shared)),))


VATEX = PublishedSet(
    name="vatex",
    title="VATEX",
    paper="arXiv 1904.03493",
    task="captions",
    media="videos",
    terms="captions CC BY 4.0; clips of YouTube",
    splits=(
        _vatex("train", 25_991, "vatex_training_v1.0.json", "train", "training"),
        _vatex("val", 3000, "vatex_validation_v1.0.json", "val", "validation"),
        _vatex("test", 6000, "vatex_public_test_english_v1.1.json", "test", "public_test"),
    ),
    sources=(
        (".json", "eric-xw.github.io/vatex-website/download.html"),
        ("", "YouTube by the ids and seconds in the clips' names (Kinetics-600); ID_START_END.mp4"),
    ),
)
