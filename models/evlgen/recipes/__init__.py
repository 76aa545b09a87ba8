"""Recipes: schema, lookup by name, overrides, errors with the nearest name."""

from evlgen.recipes.loading import expand_path, find_recipe, load_recipe, recipe_folder, recipe_names
from evlgen.recipes.schema import DataSource, Recipe

__all__ = ["DataSource", "Recipe", "expand_path", "find_recipe", "load_recipe", "recipe_folder", "recipe_names"]
