"""What holds for all tests: one thread, a deadline each, Ctrl-C as a person's shell would have it, and quick searches
for garbage."""

import gc
import os
import signal

import pytest

# One thread for all: tiny models are fastest so, and matrix products on more threads add up in another order, which
# tests that compare one process with several bit for bit must not see.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for processes that tests start

# What a script or scheduler starts in the background ignores Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Modules stay until the end: a search for garbage need not go through them, neither while they are imported (seconds)
# nor at the end of each training run (0.4 s).
gc.disable()

DEADLINE_SECONDS = 600.0
SLOW_DEADLINE_SECONDS = 1800.0
"""Against tests that hang, not against slow machines: a hundred times what a test takes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test its deadline (pytest-timeout), fixtures included."""
    if not config.pluginmanager.hasplugin("timeout"):  # an environment that `make venv` has not seen to yet
        return
    for item in items:
        if item.get_closest_marker("timeout") is None:
            unhurried = any(item.get_closest_marker(name) for name in ("slow", "gpu", "network", "data"))
            item.add_marker(pytest.mark.timeout(SLOW_DEADLINE_SECONDS if unhurried else DEADLINE_SECONDS))


def pytest_collection_finish() -> None:
    """All test modules are imported."""
    gc.freeze()
    gc.enable()
