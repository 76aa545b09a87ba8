"""Recipes: schema, chains of them, tables of models, lookup by name, overrides, errors with the nearest name.

>>> from evlgen.recipes import load_recipe
>>> load_recipe("mini-pretrain", ["model.connector.r=8"]).model.tokens_per_layer()
[73, 65, 57, 49, 41, 33]
"""

from evlgen.recipes.chains import Chain, is_chain, load_any, load_chain
from evlgen.recipes.data_schema import DataSource
from evlgen.recipes.loading import expand_path, expand_variables, find_recipe, load_recipe, recipe_folder, recipe_names
from evlgen.recipes.model_tables import TableRecipe, is_table, load_table
from evlgen.recipes.schema import Recipe

__all__ = [
    "Chain",
    "DataSource",
    "Recipe",
    "TableRecipe",
    "expand_path",
    "expand_variables",
    "find_recipe",
    "is_chain",
    "is_table",
    "load_any",
    "load_chain",
    "load_recipe",
    "load_table",
    "recipe_folder",
    "recipe_names",
]
