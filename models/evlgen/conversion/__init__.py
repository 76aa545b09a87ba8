"""The authors' checkpoints: reading them into one of our folders, and writing their layout back.

`names` is the table of names, `sizes` reads a configuration off the tensors, `reading` and `writing` do the files.
"""

from evlgen.conversion.names import FAMILIES
from evlgen.conversion.reading import Converted, convert
from evlgen.conversion.sizes import Assumed, eva_vit_g
from evlgen.conversion.writing import Restored, to_authors

__all__ = ["FAMILIES", "Assumed", "Converted", "Restored", "convert", "eva_vit_g", "to_authors"]
