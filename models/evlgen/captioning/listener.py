"""How a run tells its caller what happens; the library itself prints nothing."""

from evlgen.captioning.plan import Plan
from evlgen.captioning.rows import Row


class Listener:
    """Hears of everything in the order in which it happens; override what is of interest."""

    def on_plan(self, plan: Plan) -> None:
        """Videos were found and compared with the output."""

    def on_download(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        """A weight file is being downloaded."""

    def on_start(self, videos: int) -> None:
        """The model is loaded; `videos` videos are about to be captioned."""

    def on_progress(self, frames: int, tokens: int) -> None:
        """So many frames were read and tokens written by now; told often, while a batch is being made."""

    def on_row(self, row: Row) -> None:
        """A line was written (or, without an output file, is ready)."""

    def on_note(self, text: str) -> None:
        """Something that people should know, in one line."""
