"""Scores of captions and answers, equal to the reference implementations and without Java where possible."""
