"""One thread for all: tiny models are fastest so, and matrix products on more threads add up in another order, which
tests that compare one process with several bit for bit must not see."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for processes that tests start
