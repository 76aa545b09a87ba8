"""A report in rows: each variant with its cost and quality, where quality breaks, and an older report beside it.

Reports are the plain values of `BenchReport.as_dict`, from memory or from a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WAYS = {
    "merge": "merging", "random": "dropping at random", "stride": "dropping by stride", "pool": "pooling the grid",
    "small": "smaller pictures", "frames": "fewer frames", "qformer": "Q-Former",
}  # fmt: skip
"""What ways to fewer tokens are called; other kinds of connectors by their names."""


@dataclass(frozen=True)
class Row:
    """A variant of a model; what was not measured is None.

    Attributes:
        model, name, way, r: whose.
        tokens: soft prompts of an item.
        flops: of a caption.
        seconds: median of a caption, in the largest batch that was timed.
        batch: that one.
        cider: in points; interval: of it.
        trained: whether the model was trained so.
        against: what `change` of CIDEr is from; change_interval: of it.
    """

    model: str
    name: str
    way: str
    r: str
    tokens: int
    flops: int
    seconds: float | None = None
    batch: int | None = None
    cider: float | None = None
    interval: tuple[float, float] | None = None
    trained: bool = False
    against: str = ""
    change: float | None = None
    change_interval: tuple[float, float] | None = None


def rows_of(report: dict[str, Any]) -> list[Row]:
    """Every variant of every model that was counted, in the order of the report."""
    return [_row(model, one) for model in report["models"] for one in model["connectors"]]


def _row(model: dict[str, Any], one: dict[str, Any]) -> Row:
    name = one["name"]
    timed = [times for times in model["caption_times"] if times["name"] == name]
    times = max(timed, key=lambda each: int(each["batch"]), default=None)
    point = next((each for each in model["points"] if each["name"] == name), None)
    flops = sum(one["caption"].values())
    row = Row(model["name"], name, one["way"], one["r"], one["soft_prompts"], flops)
    values = dict(vars(row))
    if times is not None:
        values |= {"seconds": times["caption"]["median_seconds"] / times["batch"], "batch": times["batch"]}
    if point is not None:
        cider, change = point["scores"]["CIDEr"], point["change"] or {}
        values |= {"cider": cider["value"], "interval": _pair(cider["interval"]), "trained": point["trained"]}
        values |= {"against": point["against"], "change": change.get("change")}
        values["change_interval"] = _pair(change.get("interval"))
    return Row(**values)


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))


def remarks(rows: list[Row]) -> Iterator[str]:
    """Sentences on what the scores say: where merging breaks quality, and what is better or worse at equal tokens."""
    for model in dict.fromkeys(row.model for row in rows):
        merging = [row for row in rows if row.model == model and row.way == "merge" and row.change is not None]
        fewer = sorted(merging, key=lambda row: -row.tokens)
        worse = [row for row in fewer if row.change_interval is not None and row.change_interval[1] < 0]
        if fewer and worse:
            yield f"{model}: quality breaks at {worse[0].name} ({worse[0].tokens} tokens): {told_change(worse[0])}"
        elif fewer:
            yield f"{model}: no r that was measured is worse than {fewer[0].against} by more than chance"
        for row in rows:
            if row.model != model or row.way == "merge" or row.change_interval is None:
                continue
            low, high = row.change_interval
            verdict = (
                "worse than merging"
                if high < 0
                else "better than merging"
                if low > 0
                else "different by no more than chance"
            )
            yield f"{model}: {row.name} ({row.tokens} tokens) is {verdict}: {told_change(row)}"


def told_change(row: Row) -> str:
    """ "CIDEr -1.20 (-2.00 to -0.40) against r=10"; "" if nothing was compared."""
    if row.change is None or row.change_interval is None:
        return ""
    low, high = row.change_interval
    return f"CIDEr {row.change:+.2f} ({low:+.2f} to {high:+.2f}) against {row.against}"


@dataclass(frozen=True)
class Change:
    """A figure of two reports.

    Attributes:
        model, variant, figure: which; unit: of the numbers.
        old, new: both.
        band: by how much they may differ without saying anything: of times the larger spread of rounds (slowest minus
            fastest), of scores half of the wider interval, of counts nothing.
    """

    model: str
    variant: str
    figure: str
    unit: str
    old: float
    new: float
    band: float

    @property
    def within_noise(self) -> bool:
        """Whether they differ by no more than the band."""
        return abs(self.new - self.old) <= self.band

    @property
    def verdict(self) -> str:
        """In words, with the change in percent where it means something."""
        if self.old == self.new:
            return "same"
        if self.within_noise:
            return "within noise"
        return f"{(self.new - self.old) / self.old:+.1%}" if self.old else "changed"


def compare_reports(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Every figure that both have, in the order of the new one."""
    before = {one[:3]: one for one in _figures(old)}
    found = []
    for model, variant, figure, unit, value, band in _figures(new):
        if (model, variant, figure) in before:
            *_, was, was_band = before[model, variant, figure]
            found.append(Change(model, variant, figure, unit, was, value, max(band, was_band)))
    return found


def _figures(report: dict[str, Any]) -> Iterator[tuple[str, str, str, str, float, float]]:
    """Model, variant, figure, unit, value and its own band."""

    def spread(times: dict[str, Any]) -> tuple[float, float]:
        return times["median_seconds"], times["slowest_seconds"] - times["fastest_seconds"]

    for model in report["models"]:
        name = model["name"]
        for one in model["connectors"]:
            yield name, one["name"], "soft prompts", "tokens", one["soft_prompts"], 0.0
            yield name, one["name"], "FLOPs of a caption", "FLOP", sum(one["caption"].values()), 0.0
        for one in model["connector_times"]:
            for part in ("forward", "backward", "both"):
                yield name, one["name"], f"connector {part}", "s", *spread(one[part])
        for one in model["caption_times"]:
            for part, times in {**one["phases"], "caption": one["caption"]}.items():
                yield name, one["name"], f"{part}, {one['batch']} at once", "s", *spread(times)
        for one in model["points"]:
            cider = one["scores"]["CIDEr"]
            low, high = cider["interval"] or (cider["value"], cider["value"])
            yield name, one["name"], "CIDEr", "points", cider["value"], (high - low) / 2
