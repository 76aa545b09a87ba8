"""What merging saves: tokens, parameters, FLOPs and time of a model at several r, of a Q-Former and of baselines.

Start at benchmark.py. Full-size models are built on the meta device, where they have shapes and no memory; FLOPs are
counted by torch (flops.py). Every function returns plain dataclasses; the command line and benchmarks/full_size.py draw
them.

    >>> from evlgen.bench import find_model
    >>> paper = find_model("pretrain-opt2.7b").config
    >>> paper.vision.tokens, paper.tokens_per_layer()[-1]
    (257, 29)
"""

from evlgen.bench.benchmark import (
    BenchReport,
    BenchRequest,
    ModelReport,
    bench,
    bench_model,
    parse_baselines,
    parse_numbers,
    parse_r,
    read_report,
)
from evlgen.bench.curve import CurveData, CurvePoint
from evlgen.bench.curve_plot import plot_report
from evlgen.bench.measured_models import FULL_SIZE, find_model
from evlgen.bench.page import write_page
from evlgen.bench.report_rows import compare_reports, rows_of

__all__ = [
    "FULL_SIZE",
    "BenchReport",
    "BenchRequest",
    "CurveData",
    "CurvePoint",
    "ModelReport",
    "bench",
    "bench_model",
    "compare_reports",
    "find_model",
    "parse_baselines",
    "parse_numbers",
    "parse_r",
    "plot_report",
    "read_report",
    "rows_of",
    "write_page",
]
