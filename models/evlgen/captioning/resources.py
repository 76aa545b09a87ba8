"""How many processes and threads a run of captioning takes."""

from evlgen.system.cpus import usable_cpus

_MOST_WORKERS = 16  # more have nothing to do beside one model


def default_workers() -> int:
    """Decoding processes: half of the CPUs, since the model and its tokenizer want some too; two at least."""
    return min(_MOST_WORKERS, max(2, usable_cpus() // 2))


def cap_threads() -> None:
    """Keep torch from starting more threads than there are usable CPUs; fewer, its own choice, stay as they are."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))
