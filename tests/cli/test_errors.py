"""The one error handler: each kind of failure, what it prints, and its exit code."""

import errno
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner, Result

from evlgen.errors import UsageError, WeightsError
from evlgen_cli.exits import Exit
from evlgen_cli.main import _Group


def run(failure: BaseException) -> Result:
    """Run a command that fails in this way, under the root group of evlgen."""
    app = typer.Typer(cls=_Group, pretty_exceptions_enable=False)
    app.callback()(lambda: None)

    @app.command()
    def fail() -> None:
        raise failure

    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (UsageError("no model is called 'x'", "known: y"), Exit.USAGE, "error: no model is called 'x' (known: y)"),
        (WeightsError("the disk is full"), Exit.FAILED, "error: the disk is full"),
        (WeightsError("two\nlines [b]and\x1b markup"), Exit.FAILED, "error: two lines [b]and\ufffd markup"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp\x1b/x"),
            Exit.FAILED,
            "error: /tmp\ufffd/x: No space left on device"
            " (free some space; TMPDIR names another place for temporary files)",
        ),
        (
            ValueError("I/O error: Permission denied (os error 13)"),
            Exit.FAILED,
            "error: Permission denied (choose a place that you may use)",
        ),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "interrupted"),
        (
            ZeroDivisionError("division by zero"),
            Exit.FAILED,
            "bug: ZeroDivisionError: division by zero;"
            " run again with EVLGEN_DEBUG=1 for the traceback, and please report it",
        ),
    ],
)
def test_one_line(failure: BaseException, code: Exit, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVLGEN_DEBUG", raising=False)
    result = run(failure)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line + "\n")


@pytest.mark.parametrize("failure", [UsageError("wrong"), ZeroDivisionError("division by zero")])
def test_debugging_adds_the_traceback(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLGEN_DEBUG", "1")
    lines = run(failure).stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "    raise failure" in lines
    assert lines[-1] in ("error: wrong", "bug: ZeroDivisionError: division by zero")


def test_an_exit_code_that_was_asked_for_passes() -> None:
    result = run(typer.Exit(Exit.SOME_FAILED))
    assert (result.exit_code, result.output) == (Exit.SOME_FAILED, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["captoin"], "No such command 'captoin'."),
        (["models", "ls", "--jsno"], "No such option: --jsno"),
    ],
)
def test_misspelled_commands_and_options(cli: Callable[..., Result], arguments: list[str], said: str) -> None:
    result = cli(*arguments)
    assert result.exit_code == Exit.USAGE
    assert said in result.stderr
    assert result.stdout == ""


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """`evlgen … | head -1`: quiet, whatever is written afterwards."""
    code = (
        "import sys, typer; from evlgen_cli.main import app, main; from evlgen_cli.console import print_json\n"
        "@app.command()\n"
        "def flood() -> None:\n"
        "    for _ in range(10_000): print_json(['x' * 100])\n"
        "sys.argv = ['evlgen', 'flood']; main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"[\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == Exit.FAILED
