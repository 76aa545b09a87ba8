"""Taking a model's parts out of the cache, and how much each room of it holds."""

import shutil
from pathlib import Path

from evlgen.weights.cache import bytes_under, cache_errors, cache_root
from evlgen.weights.catalogue import model_parts
from evlgen.weights.sources import Source
from evlgen.weights.verified import forget


def remove_parts(name: str, *, cache_dir: Path | None = None) -> list[tuple[Path, int]]:
    """Remove the parts of the model called `name`, and what was derived from them.

    Other models may be made of the same parts; what is needed again is fetched again.

    Returns:
        the folders that were removed, each with the bytes that it held.

    Raises:
        UsageError: there is no such model.
        EvlgenError: the cache cannot be written.
    """
    root = (cache_dir or cache_root()).absolute()
    removed: list[tuple[Path, int]] = []
    with cache_errors(root):
        for part in model_parts(name):
            sha256 = Source.parse(part.source).sha256 or ""
            forget(sha256, root)
            # keys of what is derived hold the beginning of the hash of what it is derived from
            for folder in [root / "files" / sha256, *sorted((root / "derived").glob(f"*{sha256[:16]}*"))]:
                if folder.is_dir():
                    removed.append((folder, bytes_under(folder)))
                    shutil.rmtree(folder)
    return removed


def cache_sizes(cache_dir: Path | None = None) -> dict[str, int]:
    """Bytes in each folder of the cache that holds any, the largest first."""
    root = (cache_dir or cache_root()).absolute()
    sizes = {folder.name: bytes_under(folder) for folder in root.glob("*") if folder.is_dir()}
    return {name: size for name, size in sorted(sizes.items(), key=lambda one: -one[1]) if size}
