"""`evlgen --help` and `--version`: complete, and quick because nothing heavy is imported."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

from evlgen import __version__
from evlgen_cli.main import COMMANDS

HEAVY = ["torch", "transformers", "av", "numpy", "timm", "decord", "huggingface_hub", "PIL", "yaml"]


def test_version(cli: Callable[..., Result]) -> None:
    result = cli("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"evlgen {__version__}\n", "")


def test_help_names_every_command(cli: Callable[..., Result]) -> None:
    shown = cli("--help").stdout
    assert [name for name in COMMANDS if f"│ {name} " not in shown] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, cli: Callable[..., Result]) -> None:
    result = cli(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: evlgen {name}" in result.stdout


@pytest.mark.parametrize(
    "commands", [[["--help"]], [[name, "--help"] for name in COMMANDS]], ids=["evlgen", "commands"]
)
def test_help_imports_nothing_heavy(commands: list[list[str]]) -> None:
    # recent versions of typer read the arguments of a command with pydantic, so it is held against `evlgen --help` only
    heavy = [*HEAVY, *(["pydantic"] if commands == [["--help"]] else [])]
    code = (
        "import json, sys\nfrom evlgen_cli.main import app\nbrought = {}\n"
        f"for words in {commands!r}:\n"
        "    try: app(words)\n    except SystemExit: pass\n"
        f"    for name in {heavy!r}:\n        if name in sys.modules: brought.setdefault(name, words[0])\n"
        "print(json.dumps(brought))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == {}
