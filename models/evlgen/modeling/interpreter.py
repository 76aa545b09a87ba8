"""Is this Python one that can run models? Asked before transformers is imported, whose own error says something else.

transformers builds its models' signatures out of their docstrings, which `python -OO` throws away.
"""

import sys

from evlgen.errors import UsageError

if sys.flags.optimize > 1:
    raise UsageError(
        "Python runs without docstrings (PYTHONOPTIMIZE=2, or python -OO), and transformers' models need theirs",
        "unset PYTHONOPTIMIZE, or set it to 1",
    )
