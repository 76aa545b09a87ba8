"""Files of captions in the layouts that people have, as a stream of (place, name, captions, split).

JSON lines and tables (CSV, TSV) with a header; a JSON list of such rows; MSR-VTT's videodatainfo (Xu et al., CVPR
2016), COCO and NoCaps annotations (arXiv 1504.00325, 1812.08658), Karpathy's splits (arXiv 1412.2306), VATEX; the texts
and tables of `published`. The layout is found from the content. A row that names no file, or whose captions are not
text, is an error with its line; one with no captions is handed on. In JSON lines, lists and tables a row may have a
prompt, which its captions go on from, or a question with its answers in the place of captions.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evlgen.data.published import published_rows, vatex_row
from evlgen.data.rows import Row, some, table_rows
from evlgen.errors import UsageError
from evlgen.system.jsons import parse_json
from evlgen.system.texts import read_text

FILE_COLUMNS = ("video", "image", "file", "path", "file_name", "filename", "image_name")
CAPTION_COLUMNS = ("captions", "caption")
TEXT_COLUMNS = ("text", "sentence", "description")
"""Captions by other names: where there are no captions, and no question."""
ANSWER_COLUMNS = ("answers", "answer")
QUESTION_PROMPT = "Question: {} Short answer:"
"""The prompt of a question (arXiv 2301.12597, section 4.2); rows that want another one have a prompt themselves."""
_EXPECTED = "expected a video, image, file or path (a name) and its captions (texts)"
_KINDS = "expected JSON lines, JSON, or CSV or TSV with a header, in UTF-8"


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a captions file, in file order.

    Raises:
        UsageError: it is missing, a folder, of no known layout, or a row is not what it must be; the line is named.
    """
    if path.is_dir():
        raise UsageError(f"captions {path} is a folder, expected a file", "name the JSONL or CSV file in it")
    if not path.is_file():
        raise UsageError(f"captions file {path} does not exist", "check data.*.captions in the recipe")
    text = read_text(path, _KINDS)
    start = text.lstrip()
    if not start:
        raise UsageError(f"{path} is empty", _KINDS)
    if start[0] == "{" and _is_lines(start):
        return _json_lines(path, text)
    if start[0] in "{[" and path.suffix.lower() not in {".csv", ".tsv"}:
        return _json(path, text)
    return published_rows(path, text) or _table(path, text)


def _is_lines(text: str) -> bool:
    """Whether it is JSON lines, in which every line is an object of its own, and not one object."""
    first, _, rest = text.partition("\n")
    try:
        value = parse_json(first, "")
    except UsageError:
        # a first line that is damaged, in a file of objects: the second begins with a brace as well
        return rest.lstrip(" \t\r").startswith("{")
    return bool(rest.strip()) or _known(value, FILE_COLUMNS) is not None


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):  # JSON texts may hold other line separators as they are
        if not line.strip():
            continue
        yield _row(path, f"line {number}", parse_json(line, f"{path} line {number}"))


def _row(path: Path, where: str, value: Any) -> Row:
    """A row from an object.

    Raises:
        UsageError: it is none, or has other keys or values.
    """
    name_key, key = _known(value, FILE_COLUMNS), _text_column(value)
    if name_key is None:
        raise UsageError(f"{path} {where}: {_EXPECTED}{_near(value, FILE_COLUMNS)}")
    if not isinstance(value[name_key], str) or not value[name_key].strip():
        raise UsageError(f"{path} {where}: {_EXPECTED}; {name_key} is {_shown(value[name_key])}")
    if key is None:
        raise UsageError(f"{path} {where}: {_EXPECTED}{_near(value, CAPTION_COLUMNS)}")
    listed = key.endswith("s") or isinstance(value[key], list)
    captions = value[key] if listed else [value[key]]
    captions = [] if captions is None or captions == [None] else captions
    if not (isinstance(captions, list) and all(isinstance(c, str) for c in captions)):
        raise UsageError(f"{path} {where}: {_EXPECTED}; {key} is {_shown(value[key])}")
    prompt = _prompt(path, where, value, key)
    whole = listed and key in CAPTION_COLUMNS and not prompt
    return Row(where, value[name_key], some(captions), _split(value), whole, prompt)


def _text_column(value: Any) -> str | None:
    """Where the texts stand that are trained on: captions, or answers to a question."""
    captions = _known(value, CAPTION_COLUMNS)
    if captions is not None:
        return captions
    return _known(value, TEXT_COLUMNS) if _known(value, ("question",)) is None else _known(value, ANSWER_COLUMNS)


def _prompt(path: Path, where: str, value: Mapping[str, Any], key: str) -> str:
    """The row's prompt, or the one that its question makes; a question beside captions is just another column."""
    prompt = value.get("prompt")
    question = value["question"] if key in ANSWER_COLUMNS else None
    for name, text in (("prompt", prompt), ("question", question)):
        if not (text is None or isinstance(text, str)):
            raise UsageError(f"{path} {where}: {name} is {_shown(text)}, expected a text")
    text = " ".join((question or "").split())
    if prompt and prompt.strip():
        return str(prompt.replace("{}", text) if question is not None else prompt)
    if question is not None and not text:
        raise UsageError(f"{path} {where}: the question is empty", "expected a text")
    return QUESTION_PROMPT.replace("{}", text) if text else ""


def _known(value: Any, columns: Sequence[str]) -> str | None:
    return next((c for c in columns if c in value), None) if isinstance(value, Mapping) else None


def _split(value: Mapping[str, Any]) -> str | None:
    return None if value.get("split") in (None, "") else str(value["split"])


def _near(value: Any, columns: Sequence[str]) -> str:
    """What is there instead, and the nearest name of what was expected."""
    if not isinstance(value, Mapping):
        return f", this is {_shown(value)}"
    keys = [str(key) for key in value]
    known = {c.casefold(): c for c in columns}
    pairs = [(k, difflib.get_close_matches(k.strip().casefold(), known, n=1, cutoff=0.75)) for k in keys]
    guess = next((f" (did you mean {near[0]!r} by {k!r}?)" for k, near in pairs if near), "")
    return f", not only {', '.join(repr(k) for k in keys[:8]) or 'an empty object'}{guess}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _table(path: Path, text: str) -> Iterator[Row]:
    lines = text.splitlines()
    first = next(line for line in lines if line.strip())
    headers = {d: [c.strip().strip('"') for c in first.split(d)] for d in "\t,;|"}
    columns = (*FILE_COLUMNS, *CAPTION_COLUMNS, *TEXT_COLUMNS, "question", *ANSWER_COLUMNS)
    delimiter = max(headers, key=lambda d: (sum(c in columns for c in headers[d]), len(headers[d])))
    header = dict.fromkeys(headers[delimiter])
    name, caption = _known(header, FILE_COLUMNS), _text_column(header)
    if name is None or caption is None:
        guess = _near(header, FILE_COLUMNS if name is None else CAPTION_COLUMNS)
        if name is None and caption is None and "(did" not in guess:
            raise UsageError(
                f"{path} has no header: it starts with {_shown(first)}", f"first line file,caption; {_KINDS}"
            )
        raise UsageError(
            f"{path} line 1: expected columns file (or video, image, path, file_name) and caption (or text){guess}"
        )
    for where, row in table_rows(path, text, headers[delimiter], delimiter):
        if not row[name].strip():
            raise UsageError(f"{path} {where}: {_EXPECTED}; {name} is empty")
        prompt = _prompt(path, where, row, caption)
        yield Row(where, row[name].strip(), some([row[caption]]), _split(row), False, prompt)


def _json(path: Path, text: str) -> Iterator[Row]:
    value = parse_json(text, str(path))
    if isinstance(value, list):
        if value and isinstance(value[0], dict) and {"videoID", "enCap"} <= value[0].keys():
            return (
                vatex_row(f"entry {n}", row if isinstance(row, dict) else {}, path)
                for n, row in enumerate(value, start=1)
            )
        return (_row(path, f"entry {n}", row) for n, row in enumerate(value, start=1))
    lists = {k: v for k, v in value.items() if isinstance(v, list) and v and all(isinstance(o, dict) for o in v)}
    try:
        if "sentences" in lists and "video_id" in lists["sentences"][0]:
            return iter(_published(lists.get("videos", []), "video_id", "video_id", lists["sentences"], "video_id"))
        if "images" in lists and "annotations" in lists and "image_id" in lists["annotations"][0]:
            return iter(_published(lists["images"], "id", "file_name", lists["annotations"], "image_id"))
        if "images" in lists and "sentences" in lists["images"][0]:
            return iter(_karpathy(lists["images"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: an entry is not as published: {type(error).__name__}: {error}") from None
    keys = ", ".join(repr(k) for k in list(value)[:8])
    raise UsageError(
        f"{path} is JSON of no known layout: it has {keys}",
        "known are lists of {file, caption}, MSR-VTT's videodatainfo, COCO captions, Karpathy's splits and VATEX",
    )


def _published(
    media: list[dict[str, Any]], own_id: str, name: str, captions: list[dict[str, Any]], their_id: str
) -> list[Row]:
    """Captions that point at their media by an id (MSR-VTT, COCO); in the order of the media."""
    found: dict[Any, list[str]] = {row[own_id]: [] for row in media}
    for row in captions:
        found.setdefault(row[their_id], []).append(row["caption"])
    known = {row[own_id]: (str(row[name]), _split(row)) for row in media}
    return [
        Row(f"{their_id} {key}", *_pick(known, key, texts), whole=True) for key, texts in found.items()
    ]  # fmt: skip


def _pick(known: Mapping[Any, tuple[str, str | None]], key: Any, texts: list[str]) -> tuple[str, tuple[str, ...], Any]:
    name, split = known.get(key, (str(key), None))
    return name, some(texts), split


def _karpathy(images: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for number, image in enumerate(images, start=1):
        name = f"{image['filepath']}/{image['filename']}" if image.get("filepath") else str(image["filename"])
        captions = some(sentence["raw"] for sentence in image["sentences"])
        rows.append(Row(f"images entry {number}", name, captions, _split(image), True))
    return rows
