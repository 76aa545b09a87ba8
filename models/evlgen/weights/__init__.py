"""Where files come from: source strings, pinned hashes, the cache directory. No torch here.

`fetch` brings one file and checks it; `derived` keeps what is computed from it once; `catalogue` names what evlgen
uses.
"""

from evlgen.weights.cache import cache_root
from evlgen.weights.derived import derived
from evlgen.weights.fetching import cached, fetch, fetch_all
from evlgen.weights.file_source import FileSource

__all__ = ["FileSource", "cache_root", "cached", "derived", "fetch", "fetch_all"]
