"""Pairing captions with references by id, and saying how.

People name one picture COCO_val2014_000000391895.jpg, val2014/COCO_val2014_000000391895.jpg and 391895. Exact ids
come first; only if none matches are looser rules tried, one after the other, and a rule is used only if it is one to
one. Ids that are written in several ways are an error: a part of them scored alone would look like a result.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evlgen.annotations.columns import MEDIA_SUFFIX
from evlgen.errors import UsageError
from evlgen.metrics.predictions import Predictions
from evlgen.metrics.references import References

_COCO_NUMBER = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})", re.IGNORECASE)
_MSR_VTT_NUMBER = re.compile(r"video(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Paired:
    """Captions with their references. Every reference id is in `ids` or in `absent`.

    Attributes:
        ids: reference ids that have a caption, in reference order.
        captions: the caption of each.
        references: the references of each, one or more.
        groups: by reference id, where the references name a domain, category or split.
        without_references: prediction ids, failed ones too, that no reference has.
        absent: the references of each id without a caption, in reference order.
        failed: those of `absent` whose row in the predictions says why.
        rule: how ids were matched, in words; says it too if only a few did.
    """

    ids: list[str]
    captions: list[str]
    references: list[list[str]]
    groups: dict[str, str]
    without_references: list[str]
    absent: dict[str, list[str]]
    failed: dict[str, str]
    rule: str


def pair(predictions: Predictions, references: References) -> Paired:
    """Match predictions with references.

    Raises:
        UsageError: no id matches; or a rule would give two items the same name; or some ids match by one rule and more
            by a looser one, so that ids are written in several ways.
    """
    given = list(dict.fromkeys([*predictions.captions, *predictions.failed]))
    matches, rule = match_ids(
        given,
        list(references.captions),
        references.aliases,
        what=(f"predictions {predictions.path}", f"references {references.path}"),
    )
    caption_of = {matches[key]: caption for key, caption in predictions.captions.items() if key in matches}
    ids = [key for key in references.captions if key in caption_of]
    absent = {key: captions for key, captions in references.captions.items() if key not in caption_of}
    return Paired(
        ids=ids,
        captions=[caption_of[key] for key in ids],
        references=[references.captions[key] for key in ids],
        groups=dict(references.groups),
        without_references=[key for key in given if key not in matches],
        absent=absent,
        failed={matches[key]: why for key, why in predictions.failed.items() if matches.get(key) in absent},
        rule=rule,
    )


def match_ids(
    given: list[str], known: list[str], aliases: Mapping[str, str], *, what: tuple[str, str]
) -> tuple[dict[str, str], str]:
    """Which of the known ids each given id means, and the rule in words.

    Args:
        given: ids of predictions, without repeats.
        known: ids of references, without repeats.
        aliases: second names of known ids.
        what: what the two sides are called in errors.

    Raises:
        UsageError: see `pair`.
    """
    if not given or not known:
        raise UsageError(f"{what[1 if given else 0]}: no items")
    best: dict[str, str] = {}
    rule = ""
    for name, key_of, by_alias in _RULES:
        names = aliases if by_alias else {key: key for key in known}
        if not names:
            continue
        found, clash = _match(given, names, key_of)
        if clash is not None and not best:
            raise UsageError(f"matching {what[0]} with {what[1]} by {name} is ambiguous: {clash}", "make the ids alike")
        if clash is not None or len(found) <= len(best):
            continue
        if best:
            raise UsageError(
                f"{what[0]}: ids are written in several ways: {len(best)} of {len(given)} match {what[1]} by {rule}, "
                f"but {len(found)} by {name}",
                f"write them all alike, such as {known[0]!r}",
            )
        best, rule = found, name
        if len(best) == min(len(given), len(known)):
            break
    if not best:
        raise UsageError(
            f"no id of {what[0]} is in {what[1]}: they have for example {given[0]!r} and {known[0]!r}",
            "are these files of the same data set and split?",
        )
    smaller = min(len(given), len(known))
    if 2 * len(best) < smaller:
        rule += f"; ONLY {len(best)} MATCH, of {len(given)} predictions and {len(known)} references"
    return best, rule


def _match(
    given: list[str], names: Mapping[str, str], key_of: Callable[[str], str]
) -> tuple[dict[str, str], str | None]:
    """Matches by a key, and the first two ids of one side that share a key which the other side has as well."""
    by_key: dict[str, list[str]] = {}
    for known, name in names.items():
        by_key.setdefault(key_of(name), []).append(known)
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for one in given:
        key = key_of(one)
        if key not in by_key:
            continue
        for pair_of in (by_key[key][:2], [taken.get(key, one), one]):
            if pair_of[0] != pair_of[-1]:
                return {}, f"{pair_of[0]!r} and {pair_of[1]!r} are both {key!r}"
        taken[key] = one
        found[one] = by_key[key][0]
    return found, None


def _same(name: str) -> str:
    return name


def _stem(name: str) -> str:
    return MEDIA_SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2])


def _number(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def key(name: str) -> str:
        stem = _stem(name)
        match = pattern.fullmatch(stem)
        return str(int(match[1])) if match else stem

    return key


_RULES: list[tuple[str, Callable[[str], str], bool]] = [
    ("exact ids", _same, False),
    ("the file names that the references give", _same, True),
    ("file names without folders and suffix", _stem, False),
    ("the file names that the references give, without folders and suffix", _stem, True),
    ("the number in COCO file names", _number(_COCO_NUMBER), False),
    ("the number in MSR-VTT video names", _number(_MSR_VTT_NUMBER), False),
]
