"""A captioner and a decoder that cost nothing."""

from tests.captioning.conftest import captioner, videos

__all__ = ["captioner", "videos"]
