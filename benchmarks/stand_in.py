"""A captioner that costs nothing and starts without torch, for benchmarks of all that lies around the model.

It says what it sees (the mean colour of every frame), so that a caption tells whether the right frames of the right
clip came through. As a program it is `evlgen` with this captioner in the place of every model:

    python benchmarks/stand_in.py caption clips --out captions.jsonl
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evlgen.captioners import evlgen_captioner, opening
from evlgen.captioners.protocol import Caption, ModelFacts, ModelIdentity, PromptedClip
from evlgen.captioning import ray_engine, several_processes
from evlgen.decoding_options import DecodingOptions


class StandIn:
    """Captions with colours; a batch takes as long as is said."""

    batch_size = 4
    seconds_a_batch = 0.01

    def __init__(self) -> None:
        self.on_tokens: Callable[[int], None] = lambda count: None

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        """A caption for each clip."""
        time.sleep(self.seconds_a_batch)
        self.on_tokens(len(clips))
        return [
            Caption(
                " ".join(str(frame.mean(axis=(0, 1)).round().astype(int).tolist()) for frame in one.frames), -1.0, 1
            )
            for one in clips
        ]

    def release_memory(self) -> None:
        """Nothing is held."""

    def facts(self) -> ModelFacts:
        """Nothing is known."""
        return ModelFacts()


class Worker(ray_engine.Worker):
    """A worker on Ray that captions with it."""

    def __init__(self, *arguments: Any) -> None:
        install()
        super().__init__(*arguments)


_work = several_processes._work


def work(*arguments: Any) -> None:
    """What a process of several does, with it."""
    install()
    _work(*arguments)


def install() -> None:
    """Put it where runs, workers on Ray and processes of several look for models."""
    ray_engine.Worker = Worker
    several_processes._work = work
    evlgen_captioner.load_captioner = lambda *_, **__: StandIn()
    evlgen_captioner.identify_model = lambda model: ModelIdentity(model, "stand-in", "none", 4, 32)
    opening.local_dtype = lambda dtype, *machine: "float32"


def write_clip(path: Path, number: int, frames: int = 8) -> None:
    """A tiny video whose frames have colours of their own."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for index in range(frames):
            colour = [(37 * number + 11 * index) % 200 + 30, (91 * number) % 200 + 30, (17 * index + number) % 200 + 30]
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), colour, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    import stand_in  # by its name, by which workers on Ray import it

    from evlgen_cli.main import main

    stand_in.install()
    main()
