"""The authors' checkpoints: reading them into one of our folders, and writing their layout back.

`tensor_names` is the table of names, `authors_config` reads a configuration off the tensors, `read_authors` and
`write_authors` do the files.
"""

from evlgen.conversion.authors_config import Assumed, eva_vit_g
from evlgen.conversion.read_authors import Converted, convert
from evlgen.conversion.tensor_names import FAMILIES
from evlgen.conversion.write_authors import Restored, to_authors

__all__ = ["FAMILIES", "Assumed", "Converted", "Restored", "convert", "eva_vit_g", "to_authors"]
