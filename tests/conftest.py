"""Tiny models are computed fastest by one thread; two processes of two threads each would wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for processes that tests start
