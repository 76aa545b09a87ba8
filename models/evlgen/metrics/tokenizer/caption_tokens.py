"""Whole captions: the reading order of the reference, its list of punctuation, and a short way for ordinary words."""

import re
from collections.abc import Sequence

from evlgen.metrics.tokenizer.lexer import ptb_tokens
from evlgen.metrics.tokenizer.words import SPLIT_WORDS

# pycocoevalcap's list. The tokens are in lower case by then, so that the reference, too, keeps "-lrb-" and the like.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

# Chunks between spaces that may be read one by one. Full stops, ampersands and brackets are left out: they are read
# together with what stands behind the space (U.S. The, <a b>, . . .). So are two numbers in a row (1 1/2).
_CHUNK = re.compile(r"[A-Za-z0-9'\",;:!?/#@$%*=+~^_|\\`-]+", re.ASCII)
_TWO_NUMBERS = re.compile(r"[0-9] [0-9]")
# What the next line may begin with, where that changes the reading of this line's end.
_NEXT_LINES = ("\na", "\nThe a", "\n5", "\n<a>")


class _Chunks(dict[str, str | None]):
    """Chunk of a line to its tokens, punctuation dropped; None if the rest of the text has a say."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self._last = last

    def __missing__(self, chunk: str) -> str | None:
        readings: list[list[str]]
        if chunk.isalpha() and (word := chunk.lower()) not in SPLIT_WORDS:
            readings = [[word]]  # no rule looks past the end of letters without a full stop
        elif self._last:
            core = chunk[:-1] if chunk.endswith(".") else chunk
            readings = (
                [ptb_tokens(chunk, following) for following in _NEXT_LINES] if _CHUNK.fullmatch(core or "a") else []
            )
        else:
            readings = [ptb_tokens(chunk, " a")] if _CHUNK.fullmatch(chunk) else []
        same = bool(readings) and all(reading == readings[0] for reading in readings)
        known = _joined(readings[0]) if same else None
        if len(self) < 200_000:  # a bound for endless streams of captions
            self[chunk] = known
        return known


_INNER = _Chunks(last=False)
_LAST = _Chunks(last=True)


def _joined(tokens: list[str]) -> str:
    # rstrip and split as pycocoevalcap does: a token may hold spaces of its own (1 1/2 holds a no-break space)
    return " ".join(t for t in " ".join(tokens).rstrip().split(" ") if t not in PUNCTUATION)


def _short_way(caption: str) -> str | None:
    """The tokens of a caption of ordinary chunks; None for all others."""
    if not (caption.isascii() and caption.isprintable()):
        return None
    chunks = caption.split()
    if not chunks or _TWO_NUMBERS.search(caption):
        return None
    last = _LAST[chunks.pop()]
    if last is None:
        return None
    known = [_INNER[chunk] for chunk in chunks]
    known.append(last)
    if None in known:
        return None
    return " ".join(filter(None, known))


def tokenize_captions(captions: Sequence[str]) -> list[str]:
    """Each caption's tokens, joined by single spaces: what pycocoevalcap's PTBTokenizer gives for this list.

    The order of the list matters a little, as it does for the reference: see `ptb_tokens`.

    Returns:
        As many strings as there are captions; "" for one without a word. A token may hold a no-break space ("1 1/2"),
        at which BLEU and CIDEr, but not ROUGE-L, split it.
    """
    lines = [caption.replace("\n", " ") for caption in captions]
    tokenized: list[str] = []
    for number, line in enumerate(lines):
        known = _short_way(line) if number + 1 < len(lines) else None
        tokenized.append(_joined(ptb_tokens(line, _following(lines, number))) if known is None else known)
    return tokenized


def _following(lines: list[str], number: int) -> str:
    """What stands behind a line, up to the end of the next line that is not blank."""
    following = ""
    for later in range(number + 1, len(lines)):
        following += "\n" + lines[later]
        if lines[later].strip():
            return following + ("\n" if later + 1 < len(lines) else "")
    return following
