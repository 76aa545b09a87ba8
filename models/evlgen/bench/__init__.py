"""What merging saves: tokens, parameters, FLOPs and time of a model at several r, and of a Q-Former in its place.

Start at benchmark.py. Full-size models are built on the meta device, where they have shapes and no memory; FLOPs are
counted by torch (flops.py). Every function returns plain dataclasses; the command line and benchmarks/full_size.py draw
them.
"""

from evlgen.bench.benchmark import BenchReport, BenchRequest, ModelReport, bench, bench_model, parse_r
from evlgen.bench.models import FULL_SIZE, find_model

__all__ = [
    "FULL_SIZE",
    "BenchReport",
    "BenchRequest",
    "ModelReport",
    "bench",
    "bench_model",
    "find_model",
    "parse_r",
]
