"""Scores of captions and answers, equal to the reference implementations and without Java where possible.

predictions.py and references.py take what files hold (`evlgen.annotations` reads them), pairing.py brings ids together;
tokenizer/, then bleu.py, rouge.py, cider.py (on ngrams.py and frequencies.py), meteor.py and spice.py (through
java.py), vqa.py are the scores themselves; scoring.py names them; bootstrap.py makes intervals; evaluation.py,
answer_evaluation.py and comparison.py put it together, evaluation_page.py draws it; file_evaluation.py is what the
commands call.

    >>> from evlgen.metrics.scoring import ScoringOptions, score_captions, tokenize_sets
    >>> from evlgen.metrics.tokenizer import tokenize_captions
    >>> captions = tokenize_captions(["A man rides a horse.", "two dogs"])
    >>> references = tokenize_sets([["a man rides a horse"], ["Two cats.", "two dogs play"]])
    >>> scores = score_captions(captions, references, ScoringOptions(metrics=("rouge-l",)))
    >>> scores["ROUGE-L"].per_item.round(1).tolist()
    [100.0, 77.2]
"""
