"""What TAB offers, asked as a shell asks: in a process of its own, which must not load what captions."""

import json
import subprocess
import sys

ASK = """
import json, os, sys
from evlgen_cli.main import app
for typed in json.loads(sys.argv[1]):
    os.environ |= {"_EVLGEN_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    try:
        app(prog_name="evlgen")
    except SystemExit:
        pass
    print([name for name in ("torch", "transformers", "numpy", "av") if name in sys.modules])
"""
OFFERED = {
    "evlgen train --recipe mini-msrvtt-s": ["mini-msrvtt-scst"],
    "evlgen recipes show eval-v": ["eval-vqav2"],
    "evlgen data prepare --recipe eval-v": ["eval-vqav2"],
    "evlgen caption v --model evlgen-m": ["evlgen-mini"],
    "evlgen eval --model evlgen-m": ["evlgen-mini"],
    "evlgen models pull evlgen-m": ["evlgen-mini"],
    "evlgen bench --model mini-msrvtt-s": ["mini-msrvtt-scst"],
    "evlgen caption v --model ./my": [],
}


def test_names_are_offered_without_a_heavy_import() -> None:
    command = [sys.executable, "-c", ASK, json.dumps([*OFFERED])]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [word for offered in OFFERED.values() for word in (*offered, "[]")]
