"""Makes meteor.json: what METEOR's jar says, through pycocoevalcap, to made-up captions and made-up statistics.

python tests/metrics/golden/make_meteor.py        (needs Java; half a minute)
"""

import hashlib
import json
import random
from pathlib import Path

from pycocoevalcap.meteor import meteor

CAPTIONS = [
    ("a man is riding a horse", ["a man is riding a horse"]),  # whole, in one piece
    ("a man rides the horse", ["a man is riding a horse", "a person rides a horse on the beach"]),
    ("two dogs are running through the snow", ["2 dogs run in the snow", "a pair of dogs runs across a snowy field"]),
    ("someone slices an onion", ["a cook is cutting onions", "a chef chops up an onion in the kitchen"]),
    ("a woman woman woman", ["a woman is talking"]),
    ("the cat", ["a dog runs"]),  # a function word, by its paraphrase
    ("purple", ["a dog runs"]),  # nothing
    ("", ["a dog runs"]),
    ("a dog runs", [""]),
    ("", [""]),
    ("a dog", ["", "a dog barks"]),
    ("café olé", ["cafe ole", "a café"]),
    ("a ||| dog  barks", ["a dog barks"]),  # the separator is cut out here
    ("b c", ["a ||| b c"]),  # and splits here
    ("don't stop the well-known 3.5 band", ["do n't stop the well known band"]),
    ("kids play soccer on a field", ["children are playing football in a park", "boys kick a ball around"]),
    ("a car drives down the road at night", ["an automobile is driven along a street in the dark"]),
    ("horse a riding is man a", ["a man is riding a horse"]),  # as many pieces as words
    ("a band performs on stage", ["a band performs on stage", "musicians give a concert"]),
    ("a person is folding a piece of paper into a plane", ["someone makes a paper airplane by folding paper"]),
]


def statistics_row(chance: random.Random) -> list[int]:
    """Statistics that need not come from any captions: the formula must hold for all."""
    words = chance.randint(0, 20), chance.randint(0, 20)
    function = chance.randint(0, words[0]), chance.randint(0, words[1])
    left = [words[0] - function[0], words[1] - function[1], *function]
    matches: list[int] = []
    for _ in range(4):
        now = [chance.randint(0, many) for many in left]
        left = [many - few for many, few in zip(left, now, strict=True)]
        matches += now
    matched = sum(matches[0::4]) + sum(matches[2::4]), sum(matches[1::4]) + sum(matches[3::4])
    return [*words, *function, *matches, chance.randint(min(1, matched[0]), max(1, matched[0])), *matched]


def main() -> None:
    """Write the file."""
    scorer = meteor.Meteor()

    def evaluate(rows: list[str]) -> list[float]:
        """Scores of the rows, and then of them all."""
        scorer.meteor_p.stdin.write((" ||| ".join(["EVAL", *rows]) + "\n").encode())
        scorer.meteor_p.stdin.flush()
        return [float(scorer.meteor_p.stdout.readline()) for _ in range(len(rows) + 1)]

    captions = []
    for caption, references in CAPTIONS:
        statistics = scorer._stat(caption, references)
        captions.append({"caption": caption, "references": references, "statistics": statistics})
    *each, corpus = evaluate([row["statistics"] for row in captions])
    for row, score in zip(captions, each, strict=True):
        row["score"] = score
    chance = random.Random(0)
    sets = []
    for size in [1] * 20 + [2] * 20 + [5] * 10:
        rows = [" ".join(map(str, map(float, statistics_row(chance)))) for _ in range(size)]
        if size > 1 and chance.random() < 0.5:
            rows[0] = captions[0]["statistics"]  # a caption that is matched as a whole adds no chunk
        sets.append({"rows": rows, "scores": evaluate(rows)})
    jar = Path(meteor.__file__).with_name(meteor.METEOR_JAR)
    origin = f"{jar.name}, SHA-256 {hashlib.sha256(jar.read_bytes()).hexdigest()}; see make_meteor.py"
    lines = [",\n".join(json.dumps(row) for row in part) for part in (captions, sets)]
    text = f'{{"origin": "{origin}", "corpus": {corpus},\n"captions": [\n{lines[0]}\n],\n"sets": [\n{lines[1]}\n]}}\n'
    Path(__file__).with_name("meteor.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
