"""Captioners: models of several makes that caption clips, behind one protocol (protocol.py).

opening.py decides from the text of `--model` which of them is meant, and loads it.

    >>> from evlgen.captioners.opening import kind_of
    >>> kind_of("openai:llava@http://localhost:8000/v1").elsewhere, kind_of("evlgen-mini").elsewhere
    (True, False)
"""
