"""What merging saves: tokens, parameters, FLOPs and time of a model at several r, and of a Q-Former in its place.

Start at run.py. Full-size models are built on the meta device, where they have shapes and no memory; FLOPs are counted
by torch (counting.py) and checked against closed formulas (formulas.py, towers.py). Every function returns plain
dataclasses; the command line and benchmarks/full_size.py draw them.
"""

from evlgen.bench.models import FULL_SIZE, find_model, full_size_models
from evlgen.bench.run import BenchReport, BenchRequest, ModelReport, bench, bench_model, parse_r

__all__ = [
    "FULL_SIZE",
    "BenchReport",
    "BenchRequest",
    "ModelReport",
    "bench",
    "bench_model",
    "find_model",
    "full_size_models",
    "parse_r",
]
