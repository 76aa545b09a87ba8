"""Real video clips to try evlgen on, out of the catalogue."""

import shutil
from pathlib import Path

from evlgen.errors import UsageError
from evlgen.system.files import replacing
from evlgen.system.hashes import sha256_of
from evlgen.weights.catalogue import SAMPLES
from evlgen.weights.fetching import fetch_all
from evlgen.weights.sources import Source
from evlgen.weights.wheels import Report


def copy_samples(folder: Path, *, report: Report | None = None, cache_dir: Path | None = None) -> list[Path]:
    """Put the sample clips into `folder`, fetching them first if needed; clips that are there already stay.

    Raises:
        UsageError: another file already has the name of a clip; it is left alone.
        WeightsError: the clips cannot be fetched.
    """
    targets = [folder / part.name for part in SAMPLES]
    wanted = []
    for target, part in zip(targets, SAMPLES, strict=True):
        if not target.exists():
            wanted.append((target, part))
        elif not target.is_file() or sha256_of(target) != Source.parse(part.source).sha256:
            raise UsageError(f"{target} exists and is not the sample clip", "move it away, or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = fetch_all([part.source for _, part in wanted], report=report, cache_dir=cache_dir)
        for (target, _), path in zip(wanted, paths, strict=True):
            with replacing(target) as aside:  # never half a clip under its own name
                shutil.copyfile(path, aside)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "choose another folder") from error
    return targets
