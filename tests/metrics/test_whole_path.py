"""Our whole path, raw captions to scores, against pycocoevalcap's with its Java tokenizer, on real captions."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from evlgen.metrics.scoring import ScoringOptions, score_captions, tokenize_sets
from evlgen.metrics.tokenizer import tokenize_captions

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("EVLGEN_DATA" not in os.environ, reason="EVLGEN_DATA does not point at captioned data"),
    pytest.mark.skipif(shutil.which("java") is None, reason="pycocoevalcap's tokenizer needs java on the PATH"),
]

SETS = {  # name: captions and references from the references of every item
    "good captions": lambda sets: ([many[-1] for many in sets], [many[:-1] for many in sets]),
    "bad captions": lambda sets: ([many[0] for many in sets[1:] + sets[:1]], sets),
    "every third empty": lambda sets: (
        ["" if i % 3 == 0 else s[-1] for i, s in enumerate(sets)],
        [s[:-1] for s in sets],
    ),
    "one reference": lambda sets: ([many[1] for many in sets], [many[:1] for many in sets]),
    "all references": lambda sets: ([many[0].upper() + "!" for many in sets], sets),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("file", ["flickr8k/captions.jsonl", "msrvtt-frames/test.jsonl"])
def test_equal_to_the_last_digits(file: str, name: str) -> None:
    lines = (Path(os.environ["EVLGEN_DATA"]) / file).read_text(encoding="utf-8").splitlines()
    sets = [row["captions"] for row in map(json.loads, lines) if row["split"] == "test"]
    captions, references = SETS[name](sets)
    tokenizer = PTBTokenizer()
    truth = tokenizer.tokenize({i: [{"caption": c} for c in many] for i, many in enumerate(references)})
    result = tokenizer.tokenize({i: [{"caption": c}] for i, c in enumerate(captions)})
    ours = score_captions(tokenize_captions(captions), tokenize_sets(references), ScoringOptions())
    bleu, per_bleu = Bleu(4).compute_score(truth, result, verbose=0)
    theirs = {f"BLEU-{n + 1}": (bleu[n], per_bleu[n]) for n in range(4)}
    theirs |= {"CIDEr": Cider().compute_score(truth, result), "ROUGE-L": Rouge().compute_score(truth, result)}
    for key, (corpus, single) in theirs.items():
        statistics, per_item = ours[key].statistics, ours[key].per_item
        assert statistics is not None
        assert per_item is not None
        assert abs(statistics.value / 100 - corpus) < 1e-9
        assert np.abs(per_item / 100 - np.array(single)).max() < 1e-9
