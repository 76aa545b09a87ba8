"""Every example that people may copy: commands, Python and YAML in README and docs, headers of recipes, help, hints."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "models" / "evlgen" / "assets").glob("*/README.md")),
]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SOURCES = [*sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "evlgen_cli").rglob("*.py"))]


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        where: file and line.
        text: as it stands there, continued lines joined.
        whole: it can be run as it stands; otherwise it stands in a sentence and may leave out what has to be given.
    """

    where: str
    text: str
    whole: bool = True


@cache
def blocks(page: Path) -> tuple[Example, ...]:
    """The code blocks of a Markdown page: indented by four spaces behind an empty line, or fenced."""
    found: list[Example] = []
    lines: list[str] = []
    fenced, start, before = False, 0, ""
    for number, line in enumerate([*page.read_text(encoding="utf-8").splitlines(), "."], 1):
        if line.startswith("```"):
            fenced, inside = not fenced, False
        else:
            inside = fenced or (line.startswith("    ") and (bool(lines) or not before)) or (not line and bool(lines))
        if inside:
            start = start if lines else number
            lines.append(line.removeprefix("    "))
        elif lines:
            found.append(Example(f"{page.relative_to(ROOT)}:{start}", "\n".join(lines).strip("\n")))
            lines = []
        before = line
    return tuple(found)


@cache
def spans(page: Path) -> tuple[Example, ...]:
    """The `code` inside the sentences of a Markdown page; it may go over a line's end."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        for line in block.text.splitlines():
            text = text.replace(f"    {line}\n", "\n", 1)
    found = []
    for match in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Example(f"{page.relative_to(ROOT)}:{line}", " ".join(match[1].split()), whole=False))
    return tuple(found)


def header(recipe: Path) -> str:
    """The comment at the top of a recipe, without its marks."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line[1:].removeprefix(" ") for line in lines[:end])


def _of_header(recipe: Path) -> Iterator[Example]:
    """What stands behind "Command", up to the next word of that kind."""
    section = re.search(r"^Command((?:.|\n)*?)^(?=\S)", header(recipe) + "\n.", re.MULTILINE)
    text = "" if section is None else section[1].replace("\\\n", " ")
    for line in text.splitlines():
        yield Example(f"recipes/{recipe.name}", re.sub(r" {3,}\(.*", "", line.strip()))


def commands() -> list[Example]:
    """Every `evlgen ...` of pages and headers; comments are cut off, what follows &&, | or > too."""
    given: list[Example] = [example for recipe in RECIPES for example in _of_header(recipe)]
    for page in PAGES:
        for block in blocks(page):
            given += [Example(block.where, line) for line in _joined(block.text)]
        given += [span for span in spans(page) if "evlgen " in span.text]
    found: list[Example] = []
    for one in given:
        for part in re.split(r"\s&&\s|\s\|\s(?=evlgen)|;\s|\s\d?>+\s", one.text):
            words = part.strip().removeprefix("$ ")
            if re.match(r"evlgen (?!/)", words):
                found += [Example(one.where, text, one.whole) for text in _alternatives(words)]
    return found


def _joined(text: str) -> list[str]:
    """Lines, with those put together that go on behind a backslash or inside quotes."""
    found: list[str] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if found and found[-1].startswith("evlgen") and found[-1].count("'") % 2:
            found[-1] += f" {line.strip()}"
        else:
            found.append(line)
    return found


def _alternatives(words: str) -> list[str]:
    """ "evlgen data check | prepare" is two commands."""
    first, *others = words.split(" | ")
    return [first, *(f"{first.rsplit(' ', 1)[0]} {other}" for other in others)]


@cache
def trees() -> dict[Path, ast.Module]:
    """The source, parsed."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


@cache
def sentences() -> list[Example]:
    """Text that people read on the screen: strings of the source, help and hints among them, and headers of recipes."""
    found = [Example(f"recipes/{recipe.name}", " ".join(header(recipe).split()), whole=False) for recipe in RECIPES]
    for source, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                where = f"{source.relative_to(ROOT)}:{node.lineno}"
                found.append(Example(where, " ".join(node.value.split()), whole=False))
    return found
