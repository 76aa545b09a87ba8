"""A chain on a published data set that its recipe names by root and split."""

from pathlib import Path

import pytest

from evlgen.errors import UsageError
from tests.data.published_sets import COCO_VAL, SETS
from tests.training.conftest import draw_pictures
from tests.workflow.conftest import Run, write_chain


def test_a_chain_on_coco_sees_what_changes(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    SETS["coco"](root)
    draw_pictures(tmp_path, {"red": ["red"]})  # what the steps that are left out would need
    train, val = ({"dataset": "coco", "root": str(root), "split": name} for name in ("train", "val"))
    chain = write_chain(tmp_path, "data", data={"train": [train], "validation": [val]})
    done = Run(chain, tmp_path / "out")
    done()
    assert done.text("data", "done") == "3 items, 6 captions, 0 broken, all fine"
    again = Run(chain, tmp_path / "out", resume=True)
    again()
    assert [(event.step.name, event.what) for event in again.events] == [("data", "skipped")]
    (root / "val2014" / COCO_VAL[1]).rename(tmp_path / "gone.jpg")
    (root / "dataset_coco.json").write_text((root / "dataset_coco.json").read_text().replace("val one", "val 1"))
    changed = Run(chain, tmp_path / "out", resume=True)
    with pytest.raises(Exception, match=rf"coco/val: 1 of 1 items broken; val2014/{COCO_VAL[1]}: .* no such file"):
        changed()
    (root / "dataset_coco.json").unlink()
    with pytest.raises(UsageError, match=r"data: .*COCO captions train: no captions file: looked for dataset_"):
        Run(chain, tmp_path / "other")()
