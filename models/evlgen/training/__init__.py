"""Training: objectives, the loop, validation, checkpoints.

>>> from pathlib import Path
>>> from evlgen.recipes import load_recipe
>>> from evlgen.training import train
>>> report = train(load_recipe("recipe.yaml"), folder=Path("runs/mine"), device="cpu")
>>> sorted(path.name for path in Path("runs/mine/best").iterdir())
['config.json', 'model.safetensors']
"""

from evlgen.training.training_run import train

__all__ = ["train"]
