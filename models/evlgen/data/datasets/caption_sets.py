"""Data sets of captions.

Videos: MSR-VTT (Xu et al., CVPR 2016), MSVD (Chen and Dolan, ACL 2011) and VATEX (arXiv 1904.03493). Pictures: COCO
captions (arXiv 1504.00325; Karpathy's splits: 1412.2306), Flickr30k (Young et al., TACL 2014) and NoCaps (arXiv
1812.08658).
"""

from __future__ import annotations

from evlgen.annotations.splits import FLICKR30K_LISTS, MSVD_LISTS, MSVD_MAPPING
from evlgen.data.datasets.description import Layout, Media, PublishedSet, Split, media, places

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

_KARPATHY_FOLDERS = ("", "annotations", "karpathy", "caption_datasets")


def _below(*holds: str) -> tuple[Media, ...]:
    return tuple(Media(path, holds) for path in (".", "images", "coco2014"))


def _karpathy(name: str, items: int, captions: int, rows: str, *holds: str, note: str = "") -> Split:
    one_file = Layout(places("dataset_coco.json", folders=_KARPATHY_FOLDERS), _below(*holds), rows)
    one_each = Layout(places(f"coco_karpathy_{name}.json"), _below(*holds))
    return Split(name, items, captions, (one_file, one_each), note=note)


def _official(name: str, items: int, captions: int) -> Split:
    pictures = media(name, f"images/{name}")
    return Split(name, items, captions, (Layout(places(f"captions_{name}.json"), pictures),), optional=True)


COCO = PublishedSet(
    name="coco",
    title="COCO captions",
    paper="arXiv 1504.00325",
    task="captions",
    media="pictures",
    terms="captions CC BY 4.0; pictures of Flickr",
    splits=(
        _karpathy("train", 113_287, 566_747, "train+restval", "train2014", "val2014", note="Karpathy, with restval"),
        _karpathy("val", 5000, 25_010, "val", "val2014", note="Karpathy"),
        _karpathy("test", 5000, 25_010, "test", "val2014", note="Karpathy"),
        _official("train2014", 82_783, 414_113),
        _official("val2014", 40_504, 202_654),
        _official("train2017", 118_287, 591_753),
        _official("val2017", 5000, 25_014),
    ),
    sources=(
        ("dataset_coco", "cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"),
        ("coco_karpathy", "storage.googleapis.com/sfr-vision-language-research/datasets (BLIP)"),
        ("", "cocodataset.org/#download"),
    ),
)


_FLICKR30K_FOLDERS = ("flickr30k-images", "flickr30k_images", "images", "flickr30k_images/flickr30k_images")
_FLICKR30K_TEXTS = (
    *places("results_20130124.token", "results.csv", folders=("", "annotations", "flickr30k", "flickr30k_images")),
)


def _flickr30k(name: str, items: int, captions: int) -> Split:
    pictures = media(*_FLICKR30K_FOLDERS)
    one_file = Layout(places("dataset_flickr30k.json", folders=_KARPATHY_FOLDERS), pictures, name)
    below = tuple(Media(path, ("flickr30k-images",)) for path in (".", "images"))
    one_each = Layout(places(f"flickr30k_{name}.json"), below)
    lists = tuple(FLICKR30K_LISTS.format(split) for split in ("test", "val", "train"))
    return Split(name, items, captions, (one_file, one_each, Layout(_FLICKR30K_TEXTS, pictures, name, lists)))


FLICKR30K = PublishedSet(
    name="flickr30k",
    title="Flickr30k",
    paper="Young et al., TACL 2014",
    task="captions",
    media="pictures",
    terms="research only; pictures of Flickr",
    splits=(
        _flickr30k("train", 29_000, 145_000),
        _flickr30k("val", 1014, 5070),
        _flickr30k("test", 1000, 5000),
        Split(
            "all", 31_783, 158_915, (Layout(_FLICKR30K_TEXTS, media(*_FLICKR30K_FOLDERS)),), optional=True,
            note="no splits",
        ),
    ),
    sources=(
        ("dataset_flickr30k", "cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"),
        ("results.csv", "www.kaggle.com/datasets/hsankesara/flickr-image-dataset"),
        (".json", "storage.googleapis.com/sfr-vision-language-research/datasets (BLIP)"),
        (".txt", "github.com/BryanPlummer/flickr30k_entities"),
        ("", "shannon.cs.illinois.edu/DenotationGraph"),
    ),
)  # fmt: skip

NOCAPS = PublishedSet(
    name="nocaps",
    title="NoCaps",
    paper="arXiv 1812.08658",
    task="captions",
    media="pictures",
    terms="pictures CC BY 2.0 (Open Images)",
    splits=(
        Split(
            "val", 4500, 45_000,
            (
                Layout(
                    places("nocaps_val_4500_captions.json"),
                    media("val", "images/val", "validation", "nocaps_images", "images", "imgs"),
                ),
            ),
        ),
    ),
    sources=((".json", "nocaps.org/download"), ("", "Open Images by the coco_url of each entry; nocaps.org/download")),
)  # fmt: skip
