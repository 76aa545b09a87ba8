"""YAML against what PyYAML makes of it, and what it must not be."""

from pathlib import Path

import pytest
import yaml

from evlgen.errors import UsageError
from evlgen.recipes import load_any, recipe_folder
from evlgen.recipes.yamls import MOST_BYTES, parse_yaml, read_text

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_read_as_pyyaml_reads_them(path: Path) -> None:
    assert parse_yaml(read_text(path), "it") == yaml.safe_load(path.read_text())


def test_aliases_and_merged_keys_within_bounds() -> None:
    text = "base: &base {a: 1, b: [2]}\nother: {<<: *base, b: 3}\nagain: [*base, *base]\n"
    assert parse_yaml(text, "it") == yaml.safe_load(text)
    assert parse_yaml("", "it") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n", "it: key 'c' is there twice, in line 3 and line 5 (keep one of them)"),
        ("{a: 1, a: 2}", "it: key 'a' is there twice, in line 1 and line 1 (keep one of them)"),
        ("[" * 100_000, "it is nested too deeply"),
        ("{a: " * 100_000, "it is nested too deeply"),
        (LAUGHS, "it stands for more than 100,000 values, with what its aliases repeat"),
        ("a: &a [*a]", "it stands for more than 100,000 values, with what its aliases repeat"),
        ("a: [1", "it is not YAML: while parsing a flow sequence"),
        ("a: 2024-99-99", "it is not YAML: month must be in 1..12"),
        ("a: !!python/object/apply:os.system [ls]", "it is not YAML: could not determine a constructor"),
        ("a: 1\nb: [-" + "9" * 10_000 + "]", "it holds a number of more than 300 digits, in line 2"),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_yaml(text, "it")
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\nsummary: b\nname: c\n")
    with pytest.raises(UsageError, match=r"r.yaml: key 'name' is there twice, in line 1 and line 3"):
        load_any(str(path))
    for content, says in (
        (b"#" * (MOST_BYTES + 1), r"r.yaml has more than 1,048,576 bytes: that is no recipe"),
        ("name: a".encode("utf-16"), r"r.yaml is UTF-16, expected UTF-8 \(save it as UTF-8\)"),
        (b"name: \xff", r"r.yaml is not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=says):
            load_any(str(path))
