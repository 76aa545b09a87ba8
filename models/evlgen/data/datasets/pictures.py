"""COCO captions (arXiv 1504.00325; Karpathy's splits: 1412.2306), Flickr30k (Young et al., TACL 2014) and NoCaps
(arXiv 1812.08658)."""

from __future__ import annotations

from evlgen.annotations.splits import FLICKR30K_LISTS
from evlgen.data.datasets.description import Layout, Media, PublishedSet, Split, media, places

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
