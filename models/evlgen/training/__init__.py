"""Training: objectives, the loop, validation, checkpoints."""

from evlgen.training.training_run import train

__all__ = ["train"]
