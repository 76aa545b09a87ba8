"""Captions into tokens exactly as COCO's evaluation code does it: Penn Treebank tokens, lower case, no punctuation.

The reference is `PTBTokenizer` of pycocoevalcap: Stanford CoreNLP 3.4.1's tokenizer in Java, run over one file with a
caption a line, and a list of punctuation tokens that are dropped. This is an implementation of its own, written from
the reference's answers alone (see tests/metrics/golden/tokenizer.jsonl), with Java reading UTF-8.

Where we differ: captions never touch each other's lines. White space that the reference takes for the end of a line
(carriage return, vertical tab, form feed, U+2028, U+2029) and a tag that is opened in one caption and closed in a later
one make it count lines wrongly, and every later caption gets another one's tokens; here they stay in their caption.
"""

from evlgen.metrics.tokenizer.caption_tokens import PUNCTUATION, tokenize_captions
from evlgen.metrics.tokenizer.lexer import ptb_tokens

__all__ = ["PUNCTUATION", "ptb_tokens", "tokenize_captions"]
