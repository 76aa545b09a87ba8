"""Pages of HTML that open from disk: one engine that escapes, one palette for light and dark."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

PALETTE = Markup(
    ":root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6778; --line: #d9dee7; --back: #fff; --card: #f5f7fa;"
    " --accent: #2563a8; --warn: #9a3b00; }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa5b6; --line: #343c4a; --back: #14181f;"
    " --card: #1c222c; --accent: #7ab0ec; --warn: #ffb077; } }"
)
"""Colours by their use, as CSS; templates know it as `palette`."""


def page_part(package: str, name: str) -> str:
    """The text of a file of a package, such as a template or a script."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def render_template(package: str, name: str, **values: Any) -> str:
    """A template of a package, filled in. Values are escaped; one that is missing is an error."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(page_part(package, name)).render(palette=PALETTE, **values)


def render_drawn(package: str, name: str, data: Any, **values: Any) -> str:
    """A page that draws itself and asks the network for nothing: NAME.html.j2 with NAME.js, NAME.css and data.

    What strangers may have written reaches it as JSON without any "<", which NAME.js shows as text, never as markup;
    the page's policy lets no other script run.
    """
    script = Markup(page_part(package, f"{name}.js"))
    style = PALETTE + "\n" + Markup(page_part(package, f"{name}.css"))
    return render_template(
        package,
        f"{name}.html.j2",
        script=script,
        style=style,
        script_hash=_policy_hash(script),
        style_hash=_policy_hash(style),
        data=Markup(_as_script_data(data)),
        **values,
    )


def _as_script_data(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end that."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _policy_hash(text: str) -> str:
    """What a Content-Security-Policy calls a script or a style of the page by, so that no other may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
