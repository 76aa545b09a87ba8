"""The whole output of `evlgen caption`, in process, with a fake decoder and model."""

import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evlgen.captioning import ModelBrokenError
from evlgen_cli.main import app

from . import fakes


@pytest.fixture(autouse=True)
def working_folder(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)


def evlgen(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["caption", *arguments], input=stdin, prog_name="evlgen")


def steady(text: str) -> str:
    """Output without what depends on the clock."""
    text = re.sub(r"\d+\.\d+ videos/s, \d+\.\d s", "R videos/s, T s", text)
    text = re.sub(r"model \d+\.\d s, waiting for decoding \d+\.\d s; bottleneck: \w+", "TIME", text)
    return re.sub(r"captioning: (\d+ of \d+ videos), .*", r"captioning: \1, RATE", text)


def test_a_run_and_its_summary() -> None:
    fakes.write_video(Path("videos/clip3.mp4"), fail="timeout")
    fakes.write_video(Path("videos/clip4.mp4"), partial=True)
    result = evlgen("videos", "--out", "out.jsonl")
    assert result.exit_code == 3
    assert steady(result.stdout) == (
        "captions\n"
        "ok               6\n"
        "partial          1 (a part of the file could not be read)\n"
        "failed: timeout  1\n"
        "speed            R videos/s, T s\n"
        "time             TIME\n"
        "output           out.jsonl\n"
    )
    assert steady(result.stderr) == "clip3.mp4: timeout: made to fail\ncaptioning: 8 of 8 videos, RATE\n"
    assert len(fakes.rows_of(Path("out.jsonl"))) == 8


def test_nothing_left_to_do() -> None:
    assert evlgen("videos", "--out", "out.jsonl").exit_code == 0
    result = evlgen("videos", "--out", "out.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "captions\nok             0\nskipped, done  6\noutput         out.jsonl\n"


def test_earlier_failures_keep_the_exit_code_and_say_how_to_retry() -> None:
    fakes.write_video(Path("videos/clip3.mp4"), fail="timeout")
    evlgen("videos", "--out", "out.jsonl")
    result = evlgen("videos", "--out", "out.jsonl")
    assert result.exit_code == 3
    assert result.stdout == (
        "captions\nok                      0\nfailed before: timeout  1\nskipped, done           6\n"
        "output                  out.jsonl\n"
    )
    assert result.stderr == "1 videos failed before and are left alone; --retry-failed tries them again\n"
    fakes.write_video(Path("videos/clip3.mp4"), "mended")
    assert evlgen("videos", "--out", "out.jsonl", "--retry-failed").exit_code == 0


def test_other_settings_are_announced() -> None:
    evlgen("videos", "--out", "out.jsonl")
    result = evlgen("videos", "--out", "out.jsonl", "--num-beams", "5")
    assert steady(result.stderr) == (
        "6 videos have captions made with other settings (num_beams 3 -> 5); "
        "they are captioned again, and the new lines count\n"
        "captioning: 6 of 6 videos, RATE\n"
    )


def test_without_out_lines_go_to_standard_output() -> None:
    result = evlgen("videos", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["caption"] for row in rows][:2] == ["caption of clip1.mp4", "caption of clip2.mp4"]
    result = evlgen("videos/clip1.mp4")
    assert [json.loads(line)["video"] for line in result.stdout.splitlines()] == ["clip1.mp4"]
    assert steady(result.stderr) == ("captioning: 1 of 1 videos, RATE\nok 1; speed R videos/s, T s; time TIME\n")


def test_json_summary() -> None:
    fakes.write_video(Path("videos/clip3.mp4"), fail="timeout")
    result = evlgen("videos", "--out", "out.jsonl", "--json", "--quiet", "--limit", "5")
    assert (result.exit_code, result.stderr) == (3, "")
    summary = json.loads(result.stdout)
    clock = {name: summary.pop(name) for name in list(summary) if "second" in name}
    assert all(value >= 0 for value in clock.values())
    assert summary.pop("bottleneck") in ("decoding", "model")
    assert summary == {
        "output": "out.jsonl",
        "ok": 4,
        "partial": 0,
        "empty": 0,
        "marked": {},
        "empty_before": 0,
        "unreadable_folders": 0,
        "failed": {"timeout": 1},
        "done_before": 0,
        "edited": 0,
        "failed_before": {},
        "beyond_limit": 2,
        "not_reached": 0,
        "interrupted": False,
        "batch_size": 16,
    }


def test_dry_run() -> None:
    evlgen("videos", "--out", "out.jsonl", "--limit", "2")
    fakes.write_video(Path("videos/clip2.mp4"), "changed")
    before = Path("out.jsonl").read_bytes()
    result = evlgen("videos", "--out", "out.jsonl", "--limit", "2", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout == (
        "skip     clip1.mp4  (done)\n"
        "caption  clip2.mp4  (the file has changed)\n"
        "caption  clip10.mp4  (new)\n"
        "skip     sub/clip1.mp4  (beyond --limit)\n"
        "skip     sub/clip3.mkv  (beyond --limit)\n"
        "skip     sub/deep/clip1.webm  (beyond --limit)\n"
    )
    assert result.stderr == (
        "1 videos have changed since they were captioned; they are captioned again\nwould caption 2 of 6 videos\n"
    )
    assert Path("out.jsonl").read_bytes() == before
    as_json = json.loads(evlgen("videos/clip1.mp4", "--out", "out.jsonl", "--dry-run", "--json").stdout)
    assert as_json == [{"video": "clip1.mp4", "caption": False, "why": "done"}]


def test_a_path_with_a_leading_dash_works_after_two_dashes() -> None:
    fakes.write_video(Path("-odd-.mp4"), "odd")
    result = evlgen("--quiet", "--", "-odd-.mp4")
    assert json.loads(result.stdout)["video"] == "-odd-.mp4"


def test_a_list_on_standard_input() -> None:
    result = evlgen("-", "--quiet", stdin="videos/clip10.mp4\nvideos/gone.mp4\n")
    assert result.exit_code == 3
    rows = {row["video"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["videos/clip10.mp4"]["caption"] == "caption of clip10.mp4"
    assert rows["videos/gone.mp4"]["error"] == {"kind": "missing", "message": "no such file"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "error: no such file, folder or match: nope ("),
        (["empty"], "error: no video or picture in empty (looked, in sub-folders too, for .3g2 "),
        (["videos", "--num-beams", "0"], "error: --num-beams 0 is not 1 to 1000\n"),
        (["videos", "--num-captions", "4"], "error: --num-captions 4 is more than --num-beams 3\n"),
        *[
            (["videos", name, value], f"error: {name} {shown} is not ")
            for name, value, shown in (
                ("--workers", "99999999", "99999999"),
                ("--frames", "1000000", "1000000"),
                ("--max-new-tokens", "1000000", "1000000"),
                ("--num-beams", "1000000", "1000000"),
                ("--batch-size", "99999999", "99999999"),
                ("--no-repeat-ngram", "-1", "-1"),
                ("--repetition-penalty", "0", "0.0"),
                ("--repetition-penalty", "nan", "nan"),
                ("--length-penalty", "inf", "inf"),
                ("--timeout", "inf", "inf"),
                ("--timeout", "1e20", "1e+20"),
                ("--timeout", "nan", "nan"),
            )
        ],
        (["videos", "--sampler", "fps=1e308"], "error: fps must be more than 0 and at most 1000000\n"),
        (["videos", "--dtype", "int8"], "error: --dtype int8 is unknown: there is auto, float32, bfloat16, float16\n"),
        (["videos", "--prompt", "caf\udce9"], "error: --prompt is no text: it holds bytes that are not UTF-8\n"),
        (["videos", "--device", "gpu"], "error: --device gpu is unknown: there is auto, cpu, cuda, cuda:1, mps\n"),
        (["videos", "--retry-failed"], "error: --retry-failed needs --out: the file that says what failed\n"),
        (["videos", "--out", "."], "error: --out . is a folder (name a file, such as captions.jsonl)\n"),
        (["videos", "--out", "videos/clip1.mp4"], "error: videos/clip1.mp4 exists and is not a caption file; nothing"),
        (["videos", "--sampler", "best"], "error: sampler 'best' is not one of uniform, "),
        (["videos", "--sampler", "fps=often"], "error: fps"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    result = evlgen(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_options_by_their_earlier_names_are_told_their_new_ones() -> None:
    result = evlgen("videos", "--max-length", "9", "--min-length=2", "--dry-run", "--", "--max-length")
    assert result.exit_code == 2, "behind -- it is a path"
    result = evlgen("videos", "--out", "out.jsonl", "--max-length", "9", "--min-length=2")
    settings = fakes.rows_of(Path("out.jsonl"))[0]["settings"]
    assert (result.exit_code, settings["max_length"], settings["min_length"]) == (0, 9, 2)
    assert result.stderr.startswith(
        "note: --max-length is called --max-new-tokens now\nnote: --min-length is called --min-new-tokens now\n"
    )


def test_a_broken_model_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ModelBrokenError("the model failed", "try again")

    monkeypatch.setattr(fakes.evlgen_captioner, "load_captioner", fail)
    result = evlgen("videos", "--out", "out.jsonl")
    assert (result.exit_code, result.stderr) == (1, "error: the model failed (try again)\n")


def test_control_characters_do_not_reach_the_terminal() -> None:
    fakes.write_video(Path("videos/\x1b[31mred.mp4"), fail="timeout")
    result = evlgen("videos", "--out", "out.jsonl")
    assert "\x1b" not in result.output
    assert "�[31mred.mp4: timeout" in result.stderr


def test_captions_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from evlgen_cli.commands import caption_report as command

    shown: list[str] = []

    class Terminal:
        is_terminal, width = True, 20

        def print(self, text: str) -> None:
            shown.append(text)

    class Bar:
        def note(self, text: str) -> None:
            shown.append(text)

        def advance(self, count: int = 1) -> None: ...

    monkeypatch.setattr(command, "err", Terminal())
    view = command.CaptionView.__new__(command.CaptionView)
    view._bar, view._rows_to_stdout = Bar(), False
    from .test_journal import row

    view.on_row(row(caption="a dog"))
    view.on_row(row(caption="a dog runs through a field"))
    assert shown == ["a.mp4: a dog", "a.mp4: a dog runs t…"]


def test_importing_the_command_is_cheap() -> None:
    import subprocess

    code = (
        "import sys, evlgen_cli.main; print([m for m in ('torch', 'av', 'numpy', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
