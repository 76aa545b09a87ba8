"""docs/bad-input.md says what commands say today, each in one line."""

from pathlib import Path

import pytest

from tests.captioning import fakes

from . import bad_input

PAGE = (Path(__file__).parents[2] / "docs" / "bad-input.md").read_text(encoding="utf-8")


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http:// (pip install 'evlgen[remote]')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    for name in ("RANK", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    fakes.install(monkeypatch.setattr, fakes.FakeCaptioner(), decoder=False)
    bad_input.prepare()


def test_each_case_is_one_line() -> None:
    rows = [line for line in PAGE.partition(bad_input.FILES)[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(bad_input.CASES) >= 60
    for row in rows:
        assert any(f"| {code} | {kind}: " in row for code, kind in ((1, "error"), (2, "error"), (3, "warning"))), row


@pytest.mark.slow
@pytest.mark.usefixtures("working_folder")
def test_commands() -> None:
    assert bad_input.commands_page() == PAGE.partition(bad_input.FILES)[0]


@pytest.mark.slow
@pytest.mark.usefixtures("working_folder")
def test_files() -> None:
    assert PAGE.endswith(bad_input.files_page())
