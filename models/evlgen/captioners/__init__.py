"""Captioners: models of several makes that caption clips, behind one protocol (protocol.py).

opening.py decides from the text of `--model` which of them is meant, and loads it.
"""
