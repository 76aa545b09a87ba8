"""`evlgen doctor`: what this machine has, and what keeps evlgen from working on it."""

from typing import Annotated

import typer

from evlgen_cli.console import err, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.options import JsonOption


def doctor(
    as_json: JsonOption = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Decide anew which arithmetic this CPU is fast in; on a quiet machine.")
    ] = False,
) -> None:
    """Look at this machine: what evlgen needs, what it can use, and what to do about the rest.

    Exit code 1 only if something needed is broken.
    """
    from dataclasses import asdict

    from evlgen import __version__, arithmetic
    from evlgen_cli.diagnosis import CHECKS

    if measure:
        arithmetic.forget()
    checks = [look() for look in CHECKS]
    broken = [check.name for check in checks if check.status == "broken"]
    if as_json:
        print_json({"evlgen": __version__, "ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        rows = [(c.status, c.name, f"{c.found} ({c.hint})" if c.hint else c.found) for c in checks]
        table(("", f"evlgen {__version__}", ""), rows)
    if broken:
        err.print(f"broken: {', '.join(broken)}")
        raise typer.Exit(Exit.FAILED)
