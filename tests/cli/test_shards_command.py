"""`evlgen data check` and `evlgen data prepare` on shards, as a user types them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.data.shards.tars import member, with_tarfile, write_shard, write_shards
from tests.training.conftest import make_recipe, pictures  # noqa: F401 - a fixture

runner = CliRunner()


@pytest.fixture
def recipe_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811 - the fixture imported above
    monkeypatch.setenv("EVLGEN_CACHE", str(pictures / "cache"))
    monkeypatch.setenv("EVLGEN_DATA", str(pictures))
    write_shards(pictures / "laion", [4, 3, 5])
    return write_recipe(pictures, "${EVLGEN_DATA}/laion/{00000..00002}.tar")


def write_recipe(folder: Path, shards: str, **data: Any) -> Path:
    captioned = {"captions": str(folder / "captions.jsonl"), "media": str(folder / "media"), "ratio": 1.0}
    recipe = make_recipe(
        folder,
        vocabulary={"steps": 0},
        data={"train": [{"shards": shards, "ratio": 3.0, "shard_window": 2}, captioned], **data},
    )
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return folder / "tiny.yaml"


def check(recipe: Path, *more: str) -> Any:
    done = runner.invoke(app, ["data", "check", "--recipe", str(recipe), "--json", *more])
    return done, json.loads(done.stdout)[0]


def test_check_says_what_is_there(recipe_file: Path) -> None:
    done = runner.invoke(app, ["data", "check", "--recipe", str(recipe_file)])
    assert done.stdout.splitlines()[1].split() == ["laion/{00000..00002}", "train", "12", "12", "-", "0", "fine"]
    size = sum(p.stat().st_size for p in (recipe_file.parent / "laion").glob("*.tar"))
    assert done.stderr.splitlines()[0] == (
        f"laion/{{00000..00002}}: 3 shards, {size / 1000:.1f} kB; samples counted: 3 by sizes or stats"
    )
    decoded = runner.invoke(app, ["data", "check", "--recipe", str(recipe_file), "--decode"])
    assert decoded.stdout.splitlines()[1].split() == ["laion/{00000..00002}", "train", "12", "12", "12", "0", "fine"]


def test_check_finds_gaps_truncated_tars_and_broken_samples(recipe_file: Path) -> None:
    laion = recipe_file.parent / "laion"
    (laion / "00005.tar").write_bytes((laion / "00002.tar").read_bytes())
    (laion / "00005_stats.json").write_text('{"successes": 9}')
    whole = (laion / "00001.tar").read_bytes()
    with tarfile.open(laion / "00001.tar") as tar:
        last = next(m for m in tar if m.name == "000010002.jpg").offset_data
    (laion / "00001.tar").write_bytes(whole[: last + 9])
    samples = with_tarfile(laion / "00000.tar")
    samples["000000001"]["jpg"] = b"no picture"
    samples["000000002"] = {"jpg": samples["000000002"]["jpg"]}
    write_shard(laion / "00000.tar", samples)
    recipe = write_recipe(recipe_file.parent, "${EVLGEN_DATA}/laion/*.tar", max_broken_share=0.5)
    done, fast = check(recipe)
    assert done.exit_code == Exit.SOME_FAILED
    assert (fast["items"], fast["broken"], fast["is_fine"], fast["stops_a_run"]) == (21, [], False, False)
    paths = {n: str(laion / f"{n:05d}.tar") for n in range(6)}
    assert fast["shards"]["gaps"] == [paths[3], paths[4]]
    assert fast["shards"]["truncated"] == [paths[1]]
    done, slow = check(recipe, "--decode")
    assert slow["counts"] == {"decode-error": 1, "no-captions": 1, "no-picture": 1, "missing": 4}
    names = {b["kind"]: b["name"] for b in slow["broken"]}
    assert (names["decode-error"], names["no-captions"]) == ("00000.tar/000000001", "00000.tar/000000002")
    assert (slow["captions"], slow["frames"]) == (15, 14)
    assert slow["shards"]["other_numbers"] == {paths[5]: [9, 5]}
    lines = runner.invoke(app, ["data", "check", "--recipe", str(recipe)]).stderr.splitlines()
    assert lines[1:4] == [
        f"laion/*: missing in the numbering (2): {paths[3]} to {paths[4]}",
        f"laion/*: truncated (1): {paths[1]}",
        f"laion/*: other numbers of samples (1): {paths[5]} has 5, not 9",
    ]
    _, stopped = check(recipe, "--set", "data.train.0.shards=${EVLGEN_DATA}/laion/{0..9}.tar")
    assert stopped["stops_a_run"]
    assert "laion/{0..9}.tar: there is no such file" in stopped["error"]


def test_shards_that_are_cut_off_stop_check_and_prepare(recipe_file: Path) -> None:
    """A length of 0 in a record once was read forever; now the shard ends there."""
    laion = recipe_file.parent / "laion"
    for path in laion.glob("*_stats.json"):
        path.unlink()
    cut = laion / "00001.tar"
    cut.write_bytes(member(b"x", b"0 path=a.jpg\n", kind=b"x") + cut.read_bytes())
    done, row = check(recipe_file)
    assert (done.exit_code, row["stops_a_run"], row["items"]) == (Exit.SOME_FAILED, True, 9)
    assert row["shards"]["truncated"] == [str(cut)]
    assert f"1 of 3 are cut off (33.3%, data.max_broken_share allows 1.0%): {cut} (" in row["error"]
    prepared = runner.invoke(app, ["data", "prepare", "--recipe", str(recipe_file)])
    assert prepared.exit_code == Exit.FAILED
    assert "1 of 3 are cut off" in prepared.stderr


def test_prepare_makes_the_index_once(recipe_file: Path) -> None:
    folder = recipe_file.parent
    for path in (folder / "laion").glob("*_stats.json"):
        path.unlink()
    command = ["data", "prepare", "--recipe", str(recipe_file)]
    first = runner.invoke(app, [*command, "--json"])
    assert first.exit_code == Exit.OK, first.stderr
    (row,) = json.loads(first.stdout)
    assert (row["name"], row["samples"], row["scanned"]) == ("laion/{00000..00002}", 12, 3)
    assert row["index"] == str(folder / "cache" / "shards" / "index")
    assert row["facts"]["counted"] == {"scan": 3}
    made = {p: p.stat().st_mtime_ns for p in (folder / "cache").glob("shards/index/*/*.npy")}
    assert len(made) == 3
    again = runner.invoke(app, command)
    table = [line.split() for line in again.stdout.splitlines()]
    assert table[0] == ["source", "shards", "samples", "size", "indexed", "index"]
    assert table[1][:3] == ["laion/{00000..00002}", "3", "12"]
    assert {p: p.stat().st_mtime_ns for p in (folder / "cache").glob("shards/index/*/*.npy")} == made
    assert not (folder / "cache" / "features").exists()


def test_what_a_recipe_may_not_say_about_shards(recipe_file: Path) -> None:
    def refused(*settings: str) -> str:
        done = runner.invoke(
            app, ["data", "check", "--recipe", str(recipe_file), *(f"--set={setting}" for setting in settings)]
        )
        assert done.exit_code == Exit.USAGE
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("error: tiny.yaml: ").strip()

    assert refused("data.train.0.captions=x.jsonl") == "data.train.0: captions and shards exclude each other"
    assert refused("data.train.0.shards=''") == (
        "data.train.0: captions is missing (or dataset, root and split of a published set, or shards)"
    )
    assert refused("data.train.0.features=x") == (
        "data.train.0: features is for captions; shards hold their pictures, and their features are not cached"
    )
    assert refused("data.train.0.media=x") == (
        "data.train.0: media is for captions; shards hold their pictures, and their features are not cached"
    )
    assert refused("data.validation.0={shards: 'a.tar', captions: '', media: ''}") == (
        "data: validation: shards are for sources of train; validate on captions and media"
    )
    assert refused("vocabulary.weight=0.1") == (
        "vocabulary counts words of all captions: set its steps and weight to 0 with shards"
    )
    assert refused("scst.samples=2", "train.start_from=x").startswith(
        "scst needs all references at once: train it on captions and media, not on shards"
    )
