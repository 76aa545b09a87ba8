"""Training: objectives, the loop, validation, checkpoints."""

from evlgen.training.run import train

__all__ = ["train"]
