"""Videos elsewhere through the command line: in fsspec's memory, on a web server, in as much of S3 as it takes."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner, Result

from evlgen.captioning import CaptionRequest, several_processes
from evlgen.captioning.watching import watch
from evlgen.system import remote_files
from evlgen_cli.main import app
from tests.video.web_server import serving

from . import fake_s3, fakes
from .test_several_processes import work_with_fakes


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    for name in ("clip2.mp4", "clip10.mp4", "sub/clip1.webm", "notes.txt", ".hidden/a.mp4", "sub/.b.mp4"):
        files.pipe(f"/bucket/clips/{name}", json.dumps({"text": f"caption of {name}"}).encode())
    yield files
    files.store.clear()


def evlgen(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["caption", *arguments], prog_name="evlgen")


def rows() -> list[dict[str, Any]]:
    return fakes.rows_of(Path("out.jsonl"))


NAMES = [f"memory://bucket/clips/{name}" for name in ("clip2.mp4", "clip10.mp4", "sub/clip1.webm")]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["memory://bucket/clips"], NAMES),
        (["memory://bucket/clips/"], NAMES),
        (["memory://bucket/clips/*.mp4"], NAMES[:2]),
        (["memory://bucket/**/*.webm"], NAMES[2:]),
        (["memory://bucket/clips/**"], NAMES),
        (["memory://bucket/clips/notes.txt"], ["memory://bucket/clips/notes.txt"]),
        (["@list.txt"], [NAMES[1], "here.mp4", NAMES[0]]),
        ([NAMES[1], "here.mp4", "memory://bucket/clips"], [NAMES[1], "here.mp4", NAMES[0], NAMES[2]]),
    ],
)
def test_what_an_address_names(memory: Any, tmp_path: Path, sources: list[str], names: list[str]) -> None:
    fakes.write_video(tmp_path / "here.mp4")
    Path("list.txt").write_text(f"{NAMES[1]}\nhere.mp4\n{NAMES[0]}\n")
    assert evlgen(*sources, "--out", "out.jsonl").exit_code == 0
    assert [row["video"] for row in rows()] == names
    assert {row["status"] for row in rows()} == {"ok"}


def test_what_is_done_is_known_and_what_changes_is_done_again(memory: Any) -> None:
    assert evlgen("memory://bucket/clips", "--out", "out.jsonl").exit_code == 0
    first = {row["video"]: row for row in rows()}
    assert first[NAMES[0]]["caption"] == "caption of clip2.mp4"
    assert {row["root"] for row in rows()} == {"memory://bucket/clips"}
    for sources in (["memory://bucket/clips"], NAMES, ["@list.txt"]):
        Path("list.txt").write_text("\n".join(NAMES))
        assert "skipped, done  3" in evlgen(*sources, "--out", "out.jsonl").stdout
    memory.pipe("/bucket/clips/clip2.mp4", json.dumps({"text": "another"}).encode())
    assert "would caption 1 of 3 videos" in evlgen("memory://bucket/clips", "--out", "out.jsonl", "--dry-run").stderr
    evlgen("memory://bucket/clips", "--out", "out.jsonl")
    assert [(row["video"], row["caption"]) for row in rows()[3:]] == [(NAMES[0], "another")]
    assert "skipped, done  3" in evlgen("memory://bucket/clips", "--out", "out.jsonl").stdout


def test_parts_of_the_videos(memory: Any) -> None:
    for index in range(2):
        assert evlgen("memory://bucket/clips", "--out", "out.jsonl", "--shard", f"{index}/2").exit_code == 0
    names = [json.loads(line)["video"] for path in Path().glob("out.shard-*") for line in path.read_text().splitlines()]
    assert sorted(names) == sorted(NAMES)


@pytest.mark.slow
def test_several_processes_fetch_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http:// (pip install 'evlgen[remote]')")
    monkeypatch.setattr(several_processes, "_work", work_with_fakes)
    for name in "abcd":
        fakes.write_video(tmp_path / "web" / "index" / f"{name}.mp4")
    with serving(tmp_path / "web") as server:
        folder = f"{server.address}/index/"
        for _ in range(2):
            result = evlgen(folder, "--out", "out.jsonl", "--processes", "2")
            assert result.exit_code == 0, result.stderr
        fetched = {
            asked: count for asked, count in server.asked.items() if asked.startswith("GET /index/") and ".mp4" in asked
        }
    captions = {row["video"]: row["caption"] for row in rows()}
    assert captions == {f"{server.address}/index/{name}.mp4": f"caption of {name}" for name in "abcd"}
    assert (len(rows()), set(fetched.values())) == (4, {1}), "each is fetched once, by the process whose part it is"
    assert sorted(path.name for path in Path().glob("out*")) == ["out.jsonl"]


def test_a_file_that_fails_is_a_row_and_is_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    get_file, fails = type(memory).get_file, True

    def sometimes(self: Any, path: str, to: str, **options: Any) -> None:
        if fails and path.endswith("clip2.mp4"):
            raise ConnectionResetError("reset by peer")
        get_file(self, path, to, **options)

    monkeypatch.setattr(type(memory), "get_file", sometimes)
    assert evlgen("memory://bucket/clips", "--out", "out.jsonl").exit_code == 3
    failed = next(row for row in rows() if row["status"] == "error")
    assert failed["error"] == {"kind": "not-fetched", "message": "ConnectionResetError: reset by peer"}
    assert evlgen("memory://bucket/clips", "--out", "out.jsonl").exit_code == 3
    fails = False
    assert evlgen("memory://bucket/clips", "--out", "out.jsonl", "--retry-failed").exit_code == 0
    assert len(rows()) == 4


def test_a_network_that_fails_takes_no_caption(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.txt").write_text("\n".join(NAMES))
    evlgen("@list.txt", "--out", "out.jsonl")

    told = type(memory).info

    def info(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("clip10.mp4"):
            raise ConnectionResetError("reset by peer")
        return told(self, path, **options)

    monkeypatch.setattr(type(memory), "info", info)
    assert "skipped, done  3" in evlgen("@list.txt", "--out", "out.jsonl").stdout


def test_watching_sees_what_comes(memory: Any) -> None:
    request = CaptionRequest(["memory://bucket/clips"], Path("out.jsonl"))
    stop = threading.Event()
    for round_, captioning in enumerate(watch(request, stop, 0.05)):
        captioning(request, None, stop)
        memory.pipe("/bucket/clips/late.mp4", json.dumps({"text": "late"}).encode())
        if round_:
            stop.set()
    assert [row["video"] for row in rows()] == [*NAMES, "memory://bucket/clips/late.mp4"]


def test_what_is_wrong_is_one_line(memory: Any) -> None:
    fsspec.register_implementation("far", "no_such.Package", errtxt="Install far", clobber=True)
    with socket.create_server(("127.0.0.1", 0)) as server:  # a port at which nobody listens once it is closed
        dead = f"http://127.0.0.1:{server.getsockname()[1]}"
    for arguments, code, says in (
        (["memory://bucket/none"], 2, "error: no such file, folder or match: memory://bucket/none ("),
        (["memory://bucket/clips/*.avi"], 2, "error: no such file, folder or match: memory://bucket/clips/*.avi ("),
        (["nothing://bucket/a.mp4"], 2, "error: nothing://bucket/a.mp4: Protocol not known: nothing (fsspec knows s3"),
        (
            ["far://bucket/a.mp4"],
            2,
            "error: far://bucket/a.mp4: this file system needs a package that is not installed: Install far (pip "
            "install 'evlgen[remote]' has those of s3://, gs:// and https://)\n",
        ),
        (["zip://*.mp4::memory://bucket/a.zip"], 2, "error: zip://*.mp4::memory://bucket/a.zip: chained addresses are"),
        ([f"{dead}/a.mp4?sig=s3cr3t"], 1, f"error: {dead} does not answer: "),
        ([f"{dead}/*.mp4"], 2, f"error: {dead}/*.mp4: http has no folders to look into ("),
        ([f"{dead}/clips/?sig=s3cr3t"], 1, f"error: {dead}/clips/ cannot be listed: "),
        (
            ["memory://bucket/clips", "--sidecar", "txt"],
            2,
            "error: --sidecar writes files beside videos, and memory://bucket/clips/clip2.mp4 is elsewhere (evlgen "
            "export out.jsonl --to txt --out FOLDER, when it is captioned)\n",
        ),
        (["memory://bucket/clips", "--fetch-gb", "0"], 2, "error: --fetch-gb 0.0 is not more than 0 and at most "),
    ):
        result = evlgen(*arguments, "--out", "out.jsonl")
        assert result.stderr.startswith(says)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (code, "", 1)
        assert "s3cr3t" not in result.stderr
    result = evlgen("memory://bucket/clips", "--out", "s3://key:s3cr3t@bucket/out.jsonl")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --out s3://bucket/out.jsonl: captions are written to a file here, ")


def test_no_secret_is_written_or_said(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http:// (pip install 'evlgen[remote]')")
    fakes.write_video(tmp_path / "web" / "a.mp4", "a dog")
    fakes.write_video(tmp_path / "web" / "b.mp4", "a cat")
    with serving(tmp_path / "web") as server:
        server.answers = {"/b.mp4": [403] * 9}
        signed = [f"{server.address}/{name}.mp4?X-Amz-Signature=s3cr3t" for name in "ab"]
        signed[0] = signed[0].replace("//", "//me:passw0rd@")
        Path("list.txt").write_text("\n".join(signed))
        said = ""
        for more in ([], ["--status"], ["--dry-run"], ["--retry-failed", "--json"]):
            result = evlgen("@list.txt", "--out", "out.jsonl", *more)
            said += result.output + result.stderr
        assert sorted((row["video"], row["status"]) for row in rows()) == [
            (f"{server.address}/a.mp4", "ok"),
            *[(f"{server.address}/b.mp4", "error")] * 2,
        ]
        for secret in ("s3cr3t", "passw0rd"):
            assert secret not in said + Path("out.jsonl").read_text()
        result = evlgen(f"{server.address}/get?id=1", f"{server.address}/get?id=2")
        assert (result.exit_code, result.stderr.startswith("error: two addresses have the name ")) == (2, True)
        (tmp_path / "web" / "index").mkdir()
        (tmp_path / "web" / "index" / "c.mp4").write_text(json.dumps({"text": "a bird"}))
        assert evlgen(f"{server.address}/index/", "--out", "out.jsonl").exit_code == 0
        assert rows()[-1]["video"] == f"{server.address}/index/c.mp4"


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="s3:// needs s3fs (pip install 'evlgen[remote]')")
    objects = {
        f"bucket/clips/{name}": json.dumps({"text": f"caption of {name}"}).encode()
        for name in ("a.mp4", "sub/b c.mp4", "notes.txt")
    }
    with fake_s3.serving(objects) as address:
        for name, value in {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "s3cr3t"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        for source in ("s3://bucket/clips", "s3://bucket/clips/**/*.mp4"):
            result = evlgen(source, "--out", "out.jsonl")
            assert result.exit_code == 0, result.stderr
        assert [row["video"] for row in rows()] == ["s3://bucket/clips/a.mp4", "s3://bucket/clips/sub/b c.mp4"]
        objects["bucket/clips/a.mp4"] = b'{"text": "another"}'
        evlgen("s3://bucket/clips/a.mp4", "--out", "out.jsonl")
        assert [row["caption"] for row in rows()[2:]] == ["another"]
        assert "skipped, done  2" in evlgen("s3://bucket/clips", "--out", "out.jsonl").stdout
