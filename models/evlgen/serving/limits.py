"""What a request may take, so that nobody's request costs the others theirs."""

from __future__ import annotations

from dataclasses import dataclass

from evlgen.decoding_options import out_of_bounds
from evlgen.errors import UsageError
from evlgen.video.pool import MOST_SECONDS


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        most_body_mb: MB of one request; pictures and videos in base64 are a third larger than their files.
        most_megapixels: million pixels of a frame.
        most_frames: pictures in one request.
        most_requests: requests under way; further ones are told to come back.
        request_seconds: from the arrival of a request to its answer.
        most_new_tokens: most tokens of a caption, whatever is asked for.

    Raises:
        UsageError: some are out of bounds; all of them are named.
    """

    most_body_mb: int = 64
    most_megapixels: float = 40.0
    most_frames: int = 64
    most_requests: int = 128
    request_seconds: float = 120.0
    most_new_tokens: int = 256

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "most_body_mb": (1, 10_000),
            "most_megapixels": (0.001, 10_000),
            "most_frames": (1, 10_000),
            "most_requests": (1, 100_000),
            "request_seconds": (0.1, MOST_SECONDS),
            "most_new_tokens": (1, 10_000),
        }
        if problems := list(out_of_bounds(self, bounds)):
            raise UsageError("; ".join(problems))

    @property
    def body_bytes(self) -> int:
        """Most bytes of one request."""
        return self.most_body_mb << 20

    @property
    def all_bodies_bytes(self) -> int:
        """Most bytes of all requests under way: a few large ones, or many small ones."""
        return 8 * self.body_bytes

    @property
    def pixels(self) -> int:
        """Most pixels of a frame."""
        return round(self.most_megapixels * 1e6)

    @property
    def child_bytes(self) -> int:
        """Address space of a decoding child: for its libraries, and twenty frames of the largest size in a decoder."""
        return (2 << 30) + 20 * 4 * self.pixels


class RefusedError(Exception):
    """A request is not answered.

    Args:
        status: of HTTP.
        message: one line for whoever asked.
        retry_seconds: when to come back; None: asking again will not help.
    """

    def __init__(self, status: int, message: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_seconds = status, message, retry_seconds
