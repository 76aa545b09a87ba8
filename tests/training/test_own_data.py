"""A recipe for one's own captions: what is held out, what is written, and that it runs."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from evlgen.configuration import EVLGenConfig
from evlgen.data.caption_sources import read_items
from evlgen.errors import UsageError
from evlgen.recipes import load_recipe
from evlgen.training.own_data import held_out, look_at
from evlgen.weights.named_models import find_checkpoint
from evlgen_cli.exits import Exit
from evlgen_cli.main import app

runner = CliRunner()


def write_table(folder: Path, rows: list[tuple[str, str, str]], header: str = "image,caption,split") -> Path:
    (folder / "pics").mkdir(exist_ok=True)
    for name, *_ in rows:
        Image.new("RGB", (8, 8)).save(folder / "pics" / name)
    lines = [",".join(row[: header.count(",") + 1]) for row in rows]
    (folder / "My Data.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "My Data.csv"


def test_who_is_held_out_depends_on_names_alone() -> None:
    names = [f"{n}.jpg" for n in range(500)]
    assert held_out(names) == held_out(names[::-1])
    assert len(held_out(names)) == 50
    assert {len(held_out(names[:n])) for n in (2, 3, 4)} == {1}
    assert (len(held_out(names[:20])), len(held_out([f"{n}" for n in range(90_000)]))) == (5, 1000)


def test_a_recipe_from_a_table_without_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = write_table(
        tmp_path, [(f"{n}.png", f"picture {k} of {n}", "") for n in range(8) for k in (1, 2)], "image,caption"
    )
    made = runner.invoke(app, ["recipes", "new", "--data", str(table), "--media", "pics"])
    assert made.exit_code == Exit.OK, made.stderr
    written = made.stdout.split("\n")[:2]
    assert [Path(path).name for path in written] == ["my-data.yaml", "my-data.captions.jsonl"]
    recipe = load_recipe(written[0])
    mini = EVLGenConfig.from_pretrained(find_checkpoint("evlgen-mini"))
    assert recipe.model == mini.model_copy(update={"confidence": None}), "what it starts from"
    (train,), (validation,) = recipe.data.train, recipe.data.validation
    learned, chosen = ({item.name for item in read_items(one, lower_case=False)} for one in (train, validation))
    assert chosen == held_out([f"{n}.png" for n in range(8)])
    assert learned | chosen == {f"{n}.png" for n in range(8)}
    assert not learned & chosen
    assert all(len(item.captions) == 2 for item in read_items(train, lower_case=False)), "no caption is lost"
    checked = runner.invoke(app, ["data", "check", "--recipe", written[0]])
    assert checked.exit_code == Exit.OK, checked.stdout + checked.stderr
    again = runner.invoke(app, ["recipes", "new", "--data", str(table), "--media", "pics"])
    assert again.exit_code == Exit.USAGE
    assert "my-data.yaml exists already (name another file with --out)" in again.stderr


def test_splits_of_the_file_are_taken_as_they_are(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("a.png", "x", "train"), ("b.png", "y", "train"), ("c.png", "z", "valid")])
    made = runner.invoke(app, ["recipes", "new", "--data", str(table), "--media", str(tmp_path / "pics")])
    assert made.exit_code == Exit.OK, made.stderr
    recipe = load_recipe(made.stdout.strip())
    assert recipe.data.train[0].captions == str(table)
    assert (recipe.data.train[0].split, recipe.data.validation[0].split) == ("train", "valid")


def test_test_items_are_neither_learned_from_nor_chosen_by(tmp_path: Path) -> None:
    table = write_table(tmp_path, [(f"{n}.png", "x", "test" if n > 5 else "train") for n in range(8)])
    found = look_at(table, tmp_path / "pics")
    assert sorted(found.train + found.validation) == [f"{n}.png" for n in range(6)]


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("a.png", "x", "")])
    with pytest.raises(UsageError, match="has 1 items, expected 2 or more"):
        look_at(table, tmp_path / "pics")
    with pytest.raises(UsageError, match=r"none of the 1 files of .*: a.png \(name their folder with --media\)"):
        look_at(table)
    (tmp_path / "bad.csv").write_text("picture,words\na.png,x\n")
    with pytest.raises(UsageError, match="has no header"):
        look_at(tmp_path / "bad.csv", tmp_path / "pics")
    table = write_table(tmp_path, [("a.png", "x", "one"), ("b.png", "y", "two")])
    with pytest.raises(UsageError, match="no items to train on: its splits are one, two"):
        look_at(table, tmp_path / "pics")
