"""A chain on shards: its steps look at them and index them, and are done again when a shard changes."""

import json
from pathlib import Path

import pytest
import yaml

from evlgen.errors import UsageError
from tests.data.shards.tars import write_shards
from tests.training.conftest import make_recipe
from tests.workflow.conftest import Run


def test_steps_on_shards(pictures: Path) -> None:
    write_shards(pictures / "laion", [3, 2])
    recipe = make_recipe(
        pictures, vocabulary={"steps": 0}, data={"train": [{"shards": f"{pictures}/laion/{{00000..00001}}.tar"}]}
    )
    (pictures / "tiny.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    steps = [{"name": kind, "kind": kind, "recipe": "tiny.yaml"} for kind in ("check", "prepare")]
    chain = pictures / "chain.yaml"
    chain.write_text(yaml.safe_dump({"name": "tiny-chain", "summary": "a test", "chain": steps}))
    Run(chain, pictures / "out")()
    (row,) = json.loads((pictures / "out" / "prepare" / "prepare.json").read_text())
    assert (row["samples"], row["scanned"]) == (5, 2)
    checked = json.loads((pictures / "out" / "check" / "check.json").read_text())
    assert [(one["role"], one["items"]) for one in checked] == [("train", 5), ("validation", 4)]
    again = Run(chain, pictures / "out", resume=True)
    again()
    assert again.said == {"check": "skipped", "prepare": "skipped"}
    write_shards(pictures / "laion", [3, 4])
    changed = Run(chain, pictures / "out", resume=True)
    changed()
    (row,) = json.loads((pictures / "out" / "prepare" / "prepare.json").read_text())
    assert row["samples"] == 7
    (pictures / "laion" / "00001.tar").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 are missing \(50.0%, data.max_broken_share allows 1.0%\)"):
        Run(chain, pictures / "other")()
