"""The shape of a text: the same length, each character that the lexical rules do not name replaced by its class.

The rules then need to know five classes beside ASCII, and their regular expressions stay small.
"""

from bisect import bisect_right

from evlgen.metrics.tokenizer import characters

LETTER, UPPER, MARK, DIGIT, SYMBOL, DROPPED = "\u00e9\u00c9\u0301\u0660\u00b0\u0001"


def _ranges(listed: str) -> list[tuple[int, int]]:
    pairs = (r.partition("-") for r in listed.split())
    return [(int(first, 16), int(last or first, 16)) for first, _, last in pairs]


class _Shapes(dict[int, str]):
    """Code point to shape, for str.translate; filled as characters turn up."""

    def __init__(self) -> None:
        super().__init__((code, chr(code)) for code in range(0x80))
        for first, last in _ranges(characters.NAMED):
            self.update((code, chr(code)) for code in range(first, last + 1))
        classes = (
            (characters.LETTERS, LETTER),
            (characters.MARKS, MARK),
            (characters.DIGITS, DIGIT),
            (characters.SYMBOLS, SYMBOL),
        )
        self._sorted = sorted((first, last, shape) for listed, shape in classes for first, last in _ranges(listed))

    def __missing__(self, code: int) -> str:
        at = bisect_right(self._sorted, (code, 0x10FFFF, "")) - 1
        first, last, shape = self._sorted[at]
        if not first <= code <= last:
            shape = DROPPED
        elif shape == LETTER and chr(code).isupper() and not 0x13A0 <= code <= 0x13FF:  # old Cherokee had one case
            shape = UPPER
        self[code] = shape
        return shape


_SHAPES: _Shapes | None = None


def shape_of(text: str) -> str:
    """The shape of a text without characters beyond the basic plane (they stand as surrogate pairs)."""
    global _SHAPES
    if text.isascii():
        return text
    if _SHAPES is None:
        _SHAPES = _Shapes()
    return text.translate(_SHAPES)
