"""How a caption is worded for a trainer: a trigger word in front, something behind, a template; and back again."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from evlgen.errors import UsageError
from evlgen.exports.rows import Clip

PLACES = ("caption", "name", "folder", "tags")
"""What a template may hold in braces: the caption, the file's name without suffix, the name of its folder, its tags."""

_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class CaptionTemplate:
    """What stands around a caption.

    Attributes:
        prefix: in front of everything, such as a trigger word.
        suffix: behind everything.
        template: text with {caption} and other `PLACES` in it.

    Raises:
        UsageError: the template names something else, or no caption.
    """

    prefix: str = ""
    suffix: str = ""
    template: str = "{caption}"

    def __post_init__(self) -> None:
        named = _PLACE.findall(self.template)
        for name in named:
            if name not in PLACES:
                near = difflib.get_close_matches(name, PLACES, n=1)
                hint = f"did you mean {{{near[0]}}}?" if near else f"there is {', '.join(f'{{{p}}}' for p in PLACES)}"
                raise UsageError(f"--template {self.template!r} holds {{{name}}}, which is nothing", hint)
        if named.count("caption") != 1:
            raise UsageError(
                f"--template {self.template!r} must hold {{caption}} once", 'for instance "{caption}, {tags}"'
            )

    @property
    def plain(self) -> bool:
        """Whether the caption stands alone."""
        return self == CaptionTemplate()

    def around(self, clip: Clip) -> tuple[str, str]:
        """What stands in front of the caption of a video, and what behind it."""
        front, _, behind = self.template.partition("{caption}")
        return self.prefix + self._filled(front, clip), self._filled(behind, clip) + self.suffix

    def render(self, clip: Clip, caption: str) -> str:
        """The caption of a video as it is to be written."""
        front, behind = self.around(clip)
        return f"{front}{caption}{behind}".strip()

    def caption_in(self, text: str, clip: Clip) -> str:
        """The caption in a text that a person may have changed: without what stands around it, where that is there."""
        front, behind = (part.strip() for part in self.around(clip))
        return text.strip().removeprefix(front).removesuffix(behind).strip()

    def _filled(self, text: str, clip: Clip) -> str:
        path = PurePosixPath(clip.name)
        values = {
            "name": path.stem,
            "folder": clip.path.parent.name,
            "tags": ", ".join(dict.fromkeys(name for row in clip.rows for name, _ in row.tags)),
        }
        for name in (name for name, value in values.items() if not value):  # a comma goes with what it parts
            text = re.sub(rf"(,?\s*)\{{{name}\}}(,?\s*)", lambda match: match[2] if match[1] and match[2] else "", text)
        return _PLACE.sub(lambda match: values[match[1]], text)
