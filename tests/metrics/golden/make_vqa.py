"""Makes vqa.json: scores by VQA's official script of answers that this script makes up.

git clone https://github.com/GT-Vision-Lab/VQA
python tests/metrics/golden/make_vqa.py VQA/PythonEvaluationTools/vqaEvaluation/vqaEval.py
"""

import contextlib
import hashlib
import io
import json
import random
import re
import sys
import warnings
from pathlib import Path

WORDS = """
none zero one two three four five six seven eight nine ten eleven a an the A The yes Yes no red blue dog skateboard
1,000 1,2,3 3.5 3. .5 10 U.S. st. i.e. don't dont cant Im Ive somebody'd wont its twas 'ow'sat yall'd've couldnt've
who'dve
""".split()
MARKS = [*";/[]\"{}()=+\\_-><@`,?!.'", ", ", " ,", ". ", " - ", "\n", "\t", "  ", "..." * 12, "\N{NO-BREAK SPACE}"]


def load(path: Path) -> type:
    """The script's class; it is written for Python 2, whose print is all that Python 3 does not take."""
    scope: dict[str, type] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(re.sub(r'print "(.*)"', r'print("\1")', path.read_text(encoding="utf-8")), scope)
    return scope["VQAEval"]


class Table:
    """What the script expects of its two files."""

    def __init__(self, qa: dict) -> None:
        self.qa = qa

    def getQuesIds(self) -> list[int]:  # noqa: N802
        return list(self.qa)


def questions(count: int) -> list[dict]:
    """Answers, mostly near the human ones; these as counts."""
    chance = random.Random(0)

    def answer() -> str:
        words = chance.choice([1, 1, 1, 2, 3])
        return "".join(chance.choice(WORDS) + chance.choice([" ", " ", *MARKS]) for _ in range(words))

    def near(text: str) -> str:
        return chance.choice(
            [text, text, text.upper(), f"the {text}", f" {text}.", text.strip(), text.replace("'", "")]
        )

    rows = []
    for _ in range(count):
        said = answer()
        pool = [near(said) for _ in range(chance.choice([1, 2, 3]))] + [
            answer() for _ in range(chance.choice([0, 0, 2]))
        ]
        humans: dict[str, int] = {}
        for _ in range(10):
            human = chance.choice(pool)
            humans[human] = humans.get(human, 0) + 1
        kinds = {"question_type": chance.choice(["what", "is the", "how many"]), "answer_type": chance.choice("yn")}
        rows.append({"answer": chance.choice([near(said), chance.choice(pool)]), "humans": humans, **kinds})
    return rows


def main() -> None:
    """Write the file."""
    path = Path(sys.argv[1])
    rows = questions(300)
    truth = {}
    for number, row in enumerate(rows):
        said = [text for text, times in row["humans"].items() for _ in range(times)]
        answers = [{"answer": text, "answer_id": place} for place, text in enumerate(said)]
        truth[number] = {**row, "answers": answers}
    script = load(path)(Table(truth), Table({number: {"answer": row["answer"]} for number, row in enumerate(rows)}))
    with contextlib.redirect_stdout(io.StringIO()):
        script.evaluate()
    for number, row in enumerate(rows):
        row["score"] = script.evalQA[number]
        row["normal"] = script.processDigitArticle(
            script.processPunctuation(re.sub("[\n\t]", " ", row["answer"]).strip()),
        )
    origin = f"GT-Vision-Lab/VQA vqaEval.py, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}; see make_vqa.py"
    repaired = {k: v for k, v in script.contractions.items() if k == k.lower() and k != v}
    digest = hashlib.sha256(json.dumps(sorted(repaired.items())).encode()).hexdigest()
    head = {"origin": origin, "contractions_sha256": digest, "accuracy": script.accuracy}
    lines = ",\n".join(json.dumps(row) for row in rows)
    text = json.dumps(head)[:-1] + f', "questions": [\n{lines}\n]}}\n'
    Path(__file__).with_name("vqa.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
