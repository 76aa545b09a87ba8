"""What users install: the wheel, built from the source distribution, holds all that it should and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from evlgen import __version__

ROOT = Path(__file__).parents[2]
OUR_OWN = ("evlgen/", "evlgen_cli/", f"evlgen-{__version__}.dist-info/")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it; no network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f"evlgen-{__version__}-py3-none-any.whl")


@pytest.fixture(scope="session")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer does it."""
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


def checkout(folder: str, pattern: str) -> dict[str, bytes]:
    found = sorted((ROOT / folder).rglob(pattern))
    return {p.relative_to(ROOT / folder).as_posix(): p.read_bytes() for p in found if "__pycache__" not in p.parts}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "pattern", "inside"),
    [
        ("models/evlgen", "*.py", "evlgen/"),
        ("models/evlgen", "py.typed", "evlgen/"),
        ("models/evlgen", "*.safetensors", "evlgen/"),
        ("models/evlgen", "*.json", "evlgen/"),
        ("models/evlgen", "*.j2", "evlgen/"),
        ("models/evlgen", "*.js", "evlgen/"),
        ("models/evlgen", "*.css", "evlgen/"),
        ("evlgen_cli", "*.py", "evlgen_cli/"),
        ("recipes", "*.yaml", "evlgen/_recipes/"),
    ],
)
def test_every_file_is_in_it_unchanged(folder: str, pattern: str, inside: str, wheel: zipfile.ZipFile) -> None:
    files = checkout(folder, pattern)
    packed = {name: wheel.read(inside + name) for name in files if inside + name in wheel.namelist()}
    assert sorted(packed) == sorted(files)
    assert packed == files


def test_it_is_small(wheel: zipfile.ZipFile) -> None:
    assert sum(info.compress_size for info in wheel.infolist()) < 60_000_000


def test_nothing_else_is_in_it(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert [name for name in names if not name.startswith(OUR_OWN)] == []
    assert [name for name in names if "test" in name.lower() or "__pycache__" in name] == []
    assert [name for name in names if name.endswith((".yaml", ".yml")) and "/_recipes/" not in name] == []
    assert f"evlgen-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_source_distribution_carries_its_tests(built: Path) -> None:
    with tarfile.open(built / f"evlgen-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"}
    wanted |= {"tests/packaging/test_wheel.py", "models/evlgen/py.typed"}
    assert wanted - names == set()


def run(installed: Path, *arguments: str) -> str:
    """Run Python on what the wheel installed, away from the checkout."""
    command = [sys.executable, *arguments]
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "COLUMNS": "80"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=installed, env=environment
    ).stdout.strip()


def test_what_is_installed_runs(installed: Path) -> None:
    assert run(installed, "-c", "import evlgen; print(evlgen.__file__)") == str(installed / "evlgen" / "__init__.py")
    assert run(installed, "-m", "evlgen_cli", "--version") == f"evlgen {__version__}"
    assert run(installed, "-m", "evlgen_cli", "models", "ls").splitlines()[0].split()[:3] == ["model", "part", "for"]
