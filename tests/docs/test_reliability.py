"""docs/reliability.md against the tests: every input has one, and each that is named is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_input_names_a_test_that_is_there() -> None:
    inputs = PAGE.partition("## Inputs and outcomes")[2].partition("## What is left to you")[0].splitlines()
    rows = [line for line in inputs if line.startswith("| ") and not line.startswith("| input |")]
    assert len(rows) > 30
    for row in rows:
        match = re.search(r"(tests/[\w/]+\.py)::(test_\w+) \|$", row)
        assert match is not None, row
        assert f"def {match[2]}(" in (ROOT / match[1]).read_text(encoding="utf-8"), row
