"""The lexical rules of the caption tokenizer: regular expressions, of which the longest match wins.

Where a pattern has a group, the first group is the token and reading goes on behind the last group; what the pattern
matches beyond is context, which counts for the longest match. Among equally long matches the first rule wins. Every
rule was found from the outside, by feeding strings to the reference and looking at what came out.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from evlgen.metrics.tokenizer import words
from evlgen.metrics.tokenizer.characters import DIGIT, LETTER, MARK, SYMBOL, UPPER

LETTERS = f"A-Za-z{UPPER}{LETTER}"
DIGITS = f"0-9{DIGIT}"
SPACES = r" \t\u00a0\u2000-\u200a\u3000"
_BREAKS = r"\r\n\x0b\x0c\u2028\u2029"
_SPACE_OR_BREAK = rf"[{SPACES}{_BREAKS}]"

_LETTER = rf"(?:[{LETTERS}{MARK}\u00ad]|(?ai:&[aeiou]uml;))"
_WORDCHAR = rf"(?:[{LETTERS}{MARK}{DIGITS}\u00ad]|(?ai:&[aeiou]uml;))"
_WORD = rf"{_LETTER}{_WORDCHAR}*"
_ALNUM = rf"[{LETTERS}{DIGITS}]"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_APOSTROPHE = r"(?:['\u0092\u2019]|(?ai:&apos;))"
_ANY_APOSTROPHE = r"(?:['`\u0091\u0092\u2018\u2019\u201b]|(?ai:&apos;))"
_MOUTH = r"[@DOP\[\]dp{|()\\]"
_EYES = r"[-'=~^<>x]"

Token = Callable[[str], str]


class Rule(NamedTuple):
    """A pattern, and what becomes of the text of its token: nothing (None), always the same, or a function of it."""

    pattern: re.Pattern[str]
    token: Token | str | None


def _any_case(listed: list[str]) -> str:
    return "(?ai:" + "|".join(sorted(listed, key=len, reverse=True)) + ")"


def _capitalised(listed: list[str]) -> str:
    return "(?:" + "|".join(f"{w[0].upper()}(?ai:{w[1:]})" for w in sorted(listed, key=len, reverse=True)) + ")"


def _as_is(text: str) -> str:
    return text


def _brackets(text: str) -> str:
    return text.replace("(", "-LRB-").replace(")", "-RRB-")


def _word(text: str) -> str:
    return text.replace("\u00ad", "") or "-"


def _phone(text: str) -> str:
    return _spaced(_brackets(text))


def _quotes(text: str) -> str:
    return text.replace("&apos;", "'").translate(_QUOTES)


_QUOTES = {
    **dict.fromkeys(map(ord, "\u0091\u2018\u201b\u2039"), "`"),
    **dict.fromkeys(map(ord, "\u0092\u2019\u203a"), "'"),
    **dict.fromkeys(map(ord, "\u0093\u00ab\u201c"), "``"),
    **dict.fromkeys(map(ord, "\u0094\u00bb\u201d"), "''"),
}


def _spaced(text: str) -> str:
    return text.replace(" ", "\u00a0")


_STARTER = _capitalised(words.SENTENCE_STARTERS)
_TAG_NAME = r"[A-Za-z][-A-Za-z0-9_:.]*"
_TAG = (
    rf"</{_TAG_NAME}[ ]*>|<{_TAG_NAME}"
    rf"(?:[ ]+{_TAG_NAME}(?:[ ]*=[ ]*(?:\"[^\"\n]*\"|'[^'\n]*'))?)*[ ]*/?[ ]*>|<[!?][A-Za-z-][^>\r\n]*>"
)
# The end of the text, or a white-space character and then a capital, a tag, more white space or the end of the text.
_NEW_CLAUSE = rf"(?:{_SPACE_OR_BREAK}(?:[A-Z{UPPER}]|[{SPACES}{_BREAKS}]|{_TAG}|\Z)|\Z)"
_NEW_SENTENCE = rf"{_SPACE_OR_BREAK}+(?:{_STARTER}|M(?ai:[rs])\.|{_TAG}){_SPACE_OR_BREAK}"
_CLOSING = (
    f"(?:{_any_case(words.CLOSING_ABBREVIATIONS)}|{_capitalised(words.CLOSING_CAPITALISED)}"
    r"|[Pp]{1,2}[Tt][ey][Ss]?|[Pp][Hh]\.[Dd])"
)
_OPENING = f"(?:{_any_case(words.OPENING_ABBREVIATIONS)}|[Mm][ft][Gg])"
_DIGIT = f"[{DIGITS}]"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
_SEGMENT = rf"(?:[dDlLoO]{_ANY_APOSTROPHE}{_ALNUM})?{_ALNUM}+"
_THING = rf"{_SEGMENT}(?:{_HYPHEN}{_SEGMENT})*"
_HYPHENED = r"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*-(?:(?:[A-Za-z0-9\u00ad]+|(?:[A-Za-z]\.){2,})-)*"
_SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_URL_CHARACTER = r"[^ \t\r\n\f\"<>|(){}]"
_END_OF_URL = r"[^ \t\r\n\f\"<>|.!?(){},-]"
_MAIL_CHARACTER = r"[^ \t\r\n\f\u00a0\"<>|(){}]"

_PATTERNS: list[tuple[str, Token | str | None]] = [
    # what splits into two tokens
    (r"(?ai:(can)not)", _as_is),
    (r"(?ai:(gon|wan)na)", _as_is),
    (r"(?ai:(got)ta)", _as_is),
    (r"(?ai:(lem|gim)me)", _as_is),
    (r"('[tT])(?ai:is|was)", _as_is),
    (rf"([A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*)[nN]{_ANY_APOSTROPHE}[tT]", _word),
    (rf"({_WORD}){_APOSTROPHE}(?ai:[sdm]|ll|re|ve)", _word),
    # words
    (rf"[nN]{_ANY_APOSTROPHE}[tT]", _quotes),
    (rf"{_WORD}(?:[.!?]{_WORD})*", _word),
    (rf"<?[A-Za-z0-9]{_MAIL_CHARACTER}*@(?:(?:(?!\.){_MAIL_CHARACTER})+\.)*(?:(?!\.){_MAIL_CHARACTER})+>?", _as_is),
    (rf"(({_CLOSING})\.){_NEW_CLAUSE}", _as_is),
    (rf"({_CLOSING}\.)[\s\S]{{2}}", _as_is),
    (_THING, _as_is),
    (rf"{_HYPHENED}[A-Za-z0-9\u00ad]+", _word),
    (rf"{_HYPHENED}(?:[A-Za-z]\.){{2,}}", _word),
    (rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}", _as_is),
    (r"[A-Z]+(?:[&+][A-Z]+)+", _as_is),
    (r"[cC](?:\+\+|#)|[fF]#", _as_is),
    (r"(?ai:anti|pro)-", _as_is),
    (r"[A-Z]+\$", _as_is),
    # words with an apostrophe
    (rf"[A-HJ-XZn]{_ANY_APOSTROPHE}[{LETTERS}]{{2,}}", _word),
    (rf"[oO]{_ANY_APOSTROPHE}[oO]", _word),
    (rf"[{LETTERS}]+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z][{LETTERS}]*", _word),
    (r"(?ai:c'mon)", _as_is),
    (rf"(?ai:li'l|e'er|c{_APOSTROPHE}est)", _as_is),
    (rf"(?ai:d|j|l|ol|somethin){_APOSTROPHE}", _as_is),
    (rf"([yY]{_APOSTROPHE})[{LETTERS}]", _as_is),
    (rf"{_APOSTROPHE}(?ai:em|till?|cause|n{_APOSTROPHE}?)", _as_is),
    (rf"({_APOSTROPHE}(?ai:[sdm]|ll|re|ve))[^A-Za-z]", _quotes),
    (rf"({_APOSTROPHE}[0-9]{{2}}){_SPACE_OR_BREAK}", _as_is),
    (rf"{_APOSTROPHE}[2-9]0[sS]", _as_is),
    # abbreviations
    (rf"((?:{_WORD}(?:[.!?]{_WORD})*|{_THING}|{_HYPHENED}[A-Za-z0-9\u00ad]+|[A-Z]+(?:[&+][A-Z]+)+)\.)[,;:]", _word),
    (rf"{_CLOSING}\.", _as_is),
    (rf"{_OPENING}\.", _as_is),
    (rf"({_any_case(words.NUMBER_ABBREVIATIONS)}\.){_SPACE_OR_BREAK}?[{DIGITS}]", _as_is),
    (rf"(({_ACRONYM})\.){_NEW_SENTENCE}", _as_is),
    (rf"{_ACRONYM}\.", _as_is),
    (rf"([A-Za-z])\.{_NEW_SENTENCE}", _as_is),
    (r"[A-Za-z]\.", _as_is),
    # numbers
    (rf"[-+]?(?:[{DIGITS}]*(?:[.,:\u00ad\u066b\u066c][{DIGITS}]+)+|[{DIGITS}]+)", _word),
    (rf"(?:{_DIGIT}{{1,4}}[- \u00a0])?{_DIGIT}{{1,4}}(?:\\?/|\u2044){_DIGIT}{{1,4}}", _spaced),
    (rf"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}", _as_is),
    ("\u00bd", "1/2"),
    ("\u00bc", "1/4"),
    ("\u00be", "3/4"),
    ("\u2153", "1/3"),
    ("\u2154", "2/3"),
    (
        r"(?:\+{0,2}[0-9]{2,4}[- \u00a0](?:[0-9]{2,4}[- \u00a0])?|\([0-9]{2,3}\)[ \u00a0]?)"
        r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}",
        _phone,
    ),
    # the web
    (rf"(?i:https?)://{_URL_CHARACTER}+{_END_OF_URL}", _as_is),
    (
        rf"(?:(?ai:www)\.(?:(?:(?![.!?,]){_URL_CHARACTER})+\.)+[A-Za-z]{{2,4}}"
        r"|(?:[^ \t\r\n\f!\"$'(),-`{|}]+\.)+(?ai:com|net|org|edu))"
        rf"(?:/(?:{_URL_CHARACTER}|[{{}}])+{_END_OF_URL})?",
        _as_is,
    ),
    (r"@[A-Za-z_][A-Za-z0-9_]*", _as_is),
    (rf"#{_LETTER}+", _as_is),
    (rf"((?:{_WORDCHAR}+\.)+{_any_case(words.FILE_SUFFIXES)})(?:{_SPACE_OR_BREAK}|[.,!?])", _as_is),
    (_TAG, _spaced),
    (r"(?ai:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)", _as_is),
    (r"(?ai:&amp;)", "&"),
    (r"(?ai:&lt;)", "<"),
    (r"(?ai:&gt;)", ">"),
    (r"(?ai:&md;)", "--"),
    (r"(?ai:&nbsp;)", None),
    # faces
    (rf"([<>]?[:;=][-o*']?{_MOUTH})[^A-Za-z0-9]", _brackets),
    (rf"{_EYES}_{_EYES}|\({_EYES}[_.]?{_EYES}\)|\((?!-){_EYES}-(?!-){_EYES}\)", _brackets),
    # punctuation
    (r"\.{3,5}|\.(?:[ \u00a0]\.){2,4}", "..."),
    ("[\u0085\u2026]", "..."),
    (r"-{2,4}", "--"),
    (r"-{5,}", _as_is),
    ("[\u0096\u0097\u2013-\u2015]", "--"),
    (r"(\"|&quot;)[A-Za-z0-9$]", "``"),
    (r"\"|&quot;", "''"),
    (r"(')[A-Za-z][^ \t\r\n\u00a0]", "`"),
    (rf"{_APOSTROPHE}(?ai:[sdm]|ll|re|ve)", _quotes),
    (r"''|<<|>>|[!?]+|_{2,}|#{2,}|@{2,}|\*+|(?:\\\*)+", _as_is),
    ("[`\u0091-\u0094\u2018-\u201f\u00ab\u00bb\u2039\u203a]{1,2}|&apos;", _quotes),
    (r"(?ai:&(?:quot|apos);)", _as_is),
    (r"(?ai:-[lr][rcs]b-)", _as_is),
    (r"\(", "-LRB-"),
    (r"\)", "-RRB-"),
    (r"\[", "-LSB-"),
    (r"\]", "-RSB-"),
    (r"\{", "-LCB-"),
    (r"\}", "-RCB-"),
    ("[\u0080\u00a4\u20a0\u20ac]", "$"),
    ("\u00a2", "cents"),
    ("\u00a3", "#"),
    ("[\u207a\u207b\u208a\u208b]?(?:[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+|[\u2080-\u2089]+)", _as_is),
    (rf"[!-/:-@\[-`{{-~\u2044\u207a\u207b\u208a\u208b{SYMBOL}]", _as_is),
]


@cache
def rules() -> list[Rule]:
    """The rules, compiled when the first is needed: that takes a few hundredths of a second."""
    return [Rule(re.compile(pattern), token) for pattern, token in _PATTERNS]
