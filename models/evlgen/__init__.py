"""EVLGen: expedited training of visually conditioned language generation (Jian et al., ACL 2024, arXiv 2310.03291).

The rooms, in the order in which data walks through them: errors, configuration, recipes, weights, video, modeling,
data, training, captioning. Importing this package imports none of them, so that `evlgen --help` stays fast.
"""

__version__ = "0.1.0"
