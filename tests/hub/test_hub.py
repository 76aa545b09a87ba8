"""Models to a hub and back: what is uploaded, what the card says, what fails and how; captions stay the same."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load
from typer.testing import Result

from evlgen.captioners import hub_models
from evlgen.errors import UsageError
from evlgen.hub.auto_classes import EVLGenModel
from evlgen.hub.auto_config import EVLGenAutoConfig
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.recipes import load_recipe
from evlgen.training.run_folder import keep_recipe
from tests.docs.collecting import ROOT
from tests.hub.fake_hub import CLOSED, TOKEN, FakeHub, Repository
from tests.video.video_clips import write_clip

MADE = {"README.md", "config.json", "modeling_evlgen.py"}
OF_MODEL = {"model.safetensors", "vision.safetensors"}
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def front_matter(card: bytes) -> dict[str, object]:
    return yaml.safe_load(card.decode().split("---\n")[1])


def run_of(folder: Path, place: Path) -> Path:
    """A training run around a model: PLACE/best, with a log, and files that are nobody's business."""
    shutil.copytree(folder, place / "best")
    (place / "best" / "optimizer.pt").write_bytes(b"moments")
    (place / "best" / ".secret").write_text("hidden")
    recipe = {"name": "tiny", "summary": "a test"}
    (place / "recipe.json").write_text(json.dumps(recipe))  # not whole: the card does without it
    rows = [
        {"step": 0, "validation": {"clips/val": {"cider": 1.0, "loss": 3.0}}, "score": 1.0, "metric": "cider", "of": 9},
        {"step": 6, "validation": {"clips/val": {"cider": 40.25}}, "score": 40.25, "metric": "cider", "of": 9},
    ]
    (place / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place / "best"


def test_pushed_and_pulled_it_captions_the_same(
    hub: FakeHub, cli: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = run_of(folder, tmp_path / "tiny")
    before = {path: path.read_bytes() for path in best.rglob("*") if path.is_file()}
    done = cli("models", "push", best, "--to", "hf:me/tiny", "--license", "mit", "--message", "first", "--json")
    assert done.exit_code == 0, done.stderr
    assert {path: path.read_bytes() for path in best.rglob("*") if path.is_file()} == before
    assert "left out: optimizer.pt\n" in done.stderr
    there = hub.repositories["me/tiny"].files("main")
    assert there is not None
    language = {name for name in there if name.startswith("language/")}
    assert {"language/config.json", "language/model.safetensors"} <= language
    assert set(there) == MADE | OF_MODEL | language | {".gitattributes"}
    assert json.loads(done.stdout)["files"] == {n: len(there[n]) for n in there if n != ".gitattributes"}
    assert hub.repositories["me/tiny"].messages[-1] == "first"
    for name in OF_MODEL:
        assert there[name] == (folder / name).read_bytes()

    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4")
    decoding = ("--num-beams", "2", "--max-new-tokens", "6", "--dtype", "float32")
    own = cli("caption", "clips", "--model", best, "--out", "own.jsonl", *decoding)
    assert own.exit_code == 0, own.stderr
    pulled = cli("models", "pull", "hf:me/tiny", "--json")
    assert (pulled.exit_code, set(json.loads(pulled.stdout))) == (0, {"model", "vision", "language"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_models._fetched.cache_clear()
    asked = len(hub.requests)
    other = cli("caption", "clips", "--model", "hf:me/tiny", "--out", "other.jsonl", *decoding)
    assert other.exit_code == 0, other.stderr
    assert len(hub.requests) == asked
    rows = [json.loads((tmp_path / f"{name}.jsonl").read_text()) for name in ("own", "other")]
    for key in ("caption", "log_probability", "tokens", "model_hash"):
        assert rows[0].get(key) == rows[1].get(key), key

    out = cli("models", "pull", "hf:me/tiny", "--out", "copy")  # from the cache
    assert out.exit_code == 0, out.stderr
    model = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "copy")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "copy")
    want = EVLGenForConditionalGeneration.from_pretrained(best)
    ids = model.generate(**processor(PICTURE), num_beams=2, max_new_tokens=6)
    assert ids.tolist() == want.generate(want.processor(PICTURE), num_beams=2, max_new_tokens=6).sequences.tolist()
    (caption,) = transformers.pipeline("image-text-to-text", model=str(tmp_path / "copy"))(
        images=Image.fromarray(PICTURE), text="", max_new_tokens=6, return_full_text=False
    )  # fmt: skip
    assert caption["generated_text"] == want.generate(want.processor(PICTURE), max_new_tokens=6).texts[0]


def test_the_model_pushes_itself_as_the_command_does(
    hub: FakeHub, cli: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    model = EVLGenForConditionalGeneration.from_pretrained(folder)
    with pytest.raises(UsageError, match="is a path on this machine, outside the model"):
        model.push_to_hub("me/tiny")
    assert hub.requests == []
    model.config = model.config.with_sources({"vision": "pypi:parts/vision.safetensors", "language": "hf:me/words"})
    address = model.push_to_hub("me/tiny", license="mit", commit_message="first", private=True)
    one = hub.repositories["me/tiny"]
    assert (address.rpartition("/")[2], one.messages[-1], one.private) == (one.branches["main"], "first", True)
    model.save_pretrained(tmp_path / "tiny")
    assert cli("models", "push", tmp_path / "tiny", "--to", "hf:me/tiny@next", "--license", "mit").exit_code == 0
    assert same(one, "main", "next")
    assert front_matter((one.files("main") or {})["README.md"])["pipeline_tag"] == "video-text-to-text"
    wrapped = EVLGenModel(EVLGenAutoConfig.from_pretrained(tmp_path / "tiny"), model)
    wrapped.push_to_hub("me/tiny", revision="third", token=TOKEN, license="mit")
    assert same(one, "main", "third")


def same(repository: Repository, *branches: str) -> bool:
    """Whether two branches hold the same; the header of weights has its entries in any order."""
    one, other = (dict(repository.files(branch) or {}) for branch in branches)
    weights = [load(files.pop("model.safetensors")) for files in (one, other)]
    equal = all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    return one == other and weights[0].keys() == weights[1].keys() and equal


def test_the_card_says_what_is_known(hub: FakeHub, cli: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    best = run_of(folder, tmp_path / "tiny")
    keep_recipe(load_recipe("mini-pretrain"), tmp_path / "tiny")
    scores = {"items": 7, "scores": {"CIDEr": {"value": 30.5, "interval": [20.0, 41.0]}, "SPICE": {"value": None}}}
    (tmp_path / "msvd-test.json").write_text(json.dumps(scores))
    done = cli("models", "push", best, "--to", "hf:me/tiny@next", "--scores", "msvd-test.json")
    assert done.exit_code == 0, done.stderr
    assert "note: no licence is stated" in done.stderr
    repository = hub.repositories["me/tiny"]
    assert set(repository.files("main") or {}) == {".gitattributes"}
    card = (repository.files("next") or {})["README.md"]
    front = front_matter(card)
    assert (front["pipeline_tag"], front["library_name"]) == ("video-text-to-text", "evlgen")
    assert "license" not in front
    (index,) = front["model-index"]  # type: ignore[misc]
    said = [(one["dataset"]["name"], one["metrics"][0]["value"]) for one in index["results"]]
    assert said == [("msvd-test", 30.5), ("clips/val (validation while training)", 40.25)]
    text = card.decode()
    assert "| msvd-test | CIDEr | 30.5 (20.0 to 41.0) | 7 |" in text
    assert "Validation while training (step 6 of 9, by cider)" in text
    assert "No licence has been stated." in text
    written = yaml.safe_load((ROOT / "recipes" / "mini-pretrain.yaml").read_text())
    for setting, value in {
        "recipe": f"mini-pretrain: {written['summary']}",
        "trained on": "flickr8k/captions.jsonl (train), msrvtt-frames/train.jsonl (train)",
        "validated on": "flickr8k/captions.jsonl (val), msrvtt-frames/val.jsonl (val)",
        "optimizer steps": written["train"]["steps"],
        "items a step": written["data"]["items_per_step"],
        "learning rate": written["optimizer"]["learning_rate"],
        "seed": written["train"]["seed"],
    }.items():
        assert f"\n| {setting} | {value} |\n" in text
    assert str(tmp_path) not in text
    assert json.loads((repository.files("next") or {})["config.json"])["language"]["source"] == "language"


def test_a_card_of_somebody_stays(hub: FakeHub, cli: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    cli("models", "push", model, "--to", "hf:me/tiny")
    ours = (hub.repositories["me/tiny"].files("main") or {})["README.md"]
    hub.repositories["me/tiny"].commit("main", {"README.md": b"# Mine\n"})
    done = cli("models", "push", model, "--to", "hf:me/tiny")
    assert "the card of the repository is somebody's own and stays" in done.stderr
    there = hub.repositories["me/tiny"].files("main") or {}
    assert (there["README.md"], "model.safetensors" in there) == (b"# Mine\n", True)
    (model / "README.md").write_text("---\nlicense: mit\ntags: [cats]\n---\n\n# About cats\n")  # the folder's is newer
    cli("models", "push", model, "--to", "hf:me/tiny")
    card = (hub.repositories["me/tiny"].files("main") or {})["README.md"]
    assert card.decode().endswith("---\n\n# About cats\n")
    front = front_matter(card)
    assert (front["license"], front["tags"], front["pipeline_tag"]) == ("mit", ["cats"], "video-text-to-text")
    assert ours != card


def test_a_dry_run_asks_nobody(hub: FakeHub, cli: Callable[..., Result], folder: Path) -> None:
    done = cli("models", "push", folder, "--to", "hf:me/tiny", "--dry-run")
    assert (done.exit_code, hub.requests) == (0, [])
    assert re.search(r"^model.safetensors +\d", done.stdout, re.MULTILINE)
    assert "pipeline_tag: video-text-to-text" in done.stdout


def test_an_interrupted_push_is_repeated(hub: FakeHub, cli: Callable[..., Result], folder: Path) -> None:
    hub.faults = [["POST .*/commit/", CLOSED, 1]]
    first = cli("models", "push", folder, "--to", "hf:me/tiny")
    assert first.exit_code == 1
    assert first.stderr.splitlines()[-1].startswith("error: the hub cannot be reached: ")
    assert set(hub.repositories["me/tiny"].files("main") or {}) == {".gitattributes"}
    sent = len(hub.uploads)
    again = cli("models", "push", folder, "--to", "hf:me/tiny")
    assert (again.exit_code, len(hub.uploads)) == (0, sent)  # no weight went twice
    commit = hub.repositories["me/tiny"].branches["main"]
    third = cli("models", "push", folder, "--to", "hf:me/tiny")
    assert (third.exit_code, hub.repositories["me/tiny"].branches["main"]) == (0, commit)  # nothing has changed


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (["create", 401, 9], 1, r"the hub does not accept the token \(hf auth login, or another HF_TOKEN\)"),
        (["create|api/models/me/tiny$", 403, 9], 1, r"you may not write to me/tiny: .*\(give a name of your own"),
        (["preupload", 404, 9], 2, r"the hub has no me/tiny, or it is not yours \(check the name\)"),
        (["PUT /lfs", 413, 9], 1, r"a file is too large for the hub: "),
        (["commit", 500, 9], 1, r"the hub refuses me/tiny with status 500: it was told to fail \(push again"),
        (["preupload", 500, 99], 1, r"the hub refuses me/tiny with status 500"),
        (["create", CLOSED, 9], 1, r"the hub cannot be reached: .*\(check the network and HF_ENDPOINT"),
        (["PUT /lfs", CLOSED, 99], 1, r"the hub cannot be reached: "),
        (["create", 429, 9], 1, r"the hub asks to wait"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    hub: FakeHub, cli: Callable[..., Result], folder: Path, fault: list[object], code: int, line: str
) -> None:
    hub.faults = [fault]
    done = cli("models", "push", folder, "--to", "hf:me/tiny")
    assert done.exit_code == code
    assert re.fullmatch(f"error: {line}.*", done.stderr.splitlines()[-1])
    assert TOKEN not in done.stderr + done.stdout


def test_a_short_fault_is_waited_out(hub: FakeHub, cli: Callable[..., Result], folder: Path) -> None:
    hub.faults = [["preupload", 500, 1], ["PUT /lfs", CLOSED, 1]]
    assert cli("models", "push", folder, "--to", "hf:me/tiny").exit_code == 0


def test_what_is_not_yours_or_public(hub: FakeHub, cli: Callable[..., Result], folder: Path) -> None:
    hub.repositories["they/theirs"] = Repository()
    hub.repositories["they/theirs"].commit("main", {})
    done = cli("models", "push", folder, "--to", "hf:they/theirs")
    assert (done.exit_code, "you may not write to they/theirs" in done.stderr) == (1, True)
    assert cli("models", "push", folder, "--to", "hf:me/secret", "--private").exit_code == 0
    assert hub.repositories["me/secret"].private
    hub.repositories["me/open"] = Repository()
    hub.repositories["me/open"].commit("main", {})
    done = cli("models", "push", folder, "--to", "hf:me/open", "--private")
    assert (done.exit_code, "me/open is there already and is public" in done.stderr) == (2, True)
    assert hub.repositories["me/open"].files("main") == {}


def test_who_you_are(
    hub: FakeHub, cli: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = cli("models", "push", folder, "--to", "hf:me/tiny")
    assert (done.exit_code, "HF_HUB_OFFLINE is set: nothing can be pushed (unset it)" in done.stderr) == (2, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    done = cli("models", "push", folder, "--to", "hf:me/tiny")
    assert (done.exit_code, "there is no token (hf auth login, or set HF_TOKEN)" in done.stderr) == (2, True)
    assert hub.requests == []


def test_what_is_no_model_that_could_go_elsewhere(cli: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        done = cli("models", "push", *arguments, "--to", "hf:me/tiny", "--dry-run")
        assert done.exit_code in (1, 2)
        return done.stderr.splitlines()[-1]

    run_of(folder, tmp_path / "run")
    assert said(tmp_path / "run").endswith(f"is the folder of a run, not of a model (give {tmp_path / 'run' / 'best'})")
    (tmp_path / "run" / "best" / "training.safetensors").write_bytes(b"")
    assert "is a checkpoint to resume training from: it holds training.safetensors" in said(tmp_path / "run" / "best")
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    config = json.loads((moved / "config.json").read_text())
    config["language"]["source"] = str(folder / "language")
    (moved / "config.json").write_text(json.dumps(config))
    assert "is a path on this machine, outside the model (evlgen models save MODEL" in said(moved)
    assert cli("models", "save", moved, "--out", "whole", "--with-parts").exit_code == 0
    assert cli("models", "push", "whole", "--to", "hf:me/tiny", "--dry-run").exit_code == 0
    config["language"]["source"] = None
    (moved / "config.json").write_text(json.dumps(config))
    assert "language.source" in said(moved)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "whole" / "model.safetensors").write_bytes(weights)
    assert "is damaged" in said("whole")
    bad = cli("models", "push", folder, "--to", "me/tiny", "--dry-run")
    assert bad.stderr == ("error: --to me/tiny names no repository (write hf:OWNER/NAME, or hf:OWNER/NAME@BRANCH)\n")


@pytest.mark.slow
def test_what_cannot_be_pulled(hub: FakeHub, cli: Callable[..., Result], folder: Path) -> None:
    def said(name: str) -> tuple[int, str]:
        hub_models._fetched.cache_clear()
        done = cli("models", "pull", name)
        return done.exit_code, done.stderr.splitlines()[-1]

    code, line = said("hf:me/none")
    assert (code, line.startswith("error: the hub has no model 'me/none', or it is private")) == (2, True)
    hub.repositories["they/other"] = Repository()
    hub.repositories["they/other"].commit("main", {"config.json": b'{"model_type": "git"}'})
    assert said("hf:they/other") == (
        2,
        "error: hf:they/other is no model of EVLGen: it is a git (hf download they/other fetches it, and so does "
        "captioning with --model hf:they/other)",
    )
    cli("models", "push", folder, "--to", "hf:me/tiny")
    assert "there is no such revision" in said("hf:me/tiny@never")[1]
    hub.faults = [["GET .*model.safetensors", CLOSED, 99]]
    code, line = said("hf:me/tiny")
    assert (code, line.startswith("error: me/tiny")) == (1, True)
    hub.faults = []
    assert said("hf:me/tiny")[0] == 0  # goes on
