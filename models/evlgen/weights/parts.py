"""What is done with parts of the catalogue: sample clips are copied out of the cache, models are taken out of it."""

import shutil
from pathlib import Path

from evlgen.errors import UsageError
from evlgen.system.files import replacing
from evlgen.system.hashes import sha256_of
from evlgen.system.progress import ProgressCallback
from evlgen.weights.cache import bytes_under, cache_errors, cache_root
from evlgen.weights.catalogue import SAMPLES, model_parts
from evlgen.weights.fetching import fetch_all
from evlgen.weights.file_source import FileSource
from evlgen.weights.verified import forget


def copy_samples(folder: Path, *, report: ProgressCallback | None = None) -> list[Path]:
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
        elif not target.is_file() or sha256_of(target) != FileSource.parse(part.source).sha256:
            raise UsageError(f"{target} exists and is not the sample clip", "move it away, or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = fetch_all([part.source for _, part in wanted], report=report)
        for (target, _), path in zip(wanted, paths, strict=True):
            with replacing(target) as aside:  # never half a clip under its own name
                shutil.copyfile(path, aside)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", "choose another folder") from error
    return targets


def remove_parts(name: str) -> list[tuple[Path, int]]:
    """Remove the parts of the model called `name`, and what was derived from them.

    Other models may be made of the same parts; what is needed again is fetched again.

    Returns:
        the folders that were removed, each with the bytes that it held.

    Raises:
        UsageError: there is no such model.
        EvlgenError: the cache cannot be written.
    """
    root = cache_root()
    removed: list[tuple[Path, int]] = []
    with cache_errors(root):
        for part in model_parts(name):
            sha256 = FileSource.parse(part.source).sha256 or ""
            forget(sha256, root)
            # keys of what is derived hold the beginning of the hash of what it is derived from
            for folder in [root / "files" / sha256, *sorted((root / "derived").glob(f"*{sha256[:16]}*"))]:
                if folder.is_dir():
                    removed.append((folder, bytes_under(folder)))
                    shutil.rmtree(folder)
    return removed


def cache_sizes() -> dict[str, int]:
    """Bytes in each folder of the cache that holds any, the largest first."""
    sizes = {folder.name: bytes_under(folder) for folder in cache_root().glob("*") if folder.is_dir()}
    return {name: size for name, size in sorted(sizes.items(), key=lambda one: -one[1]) if size}
