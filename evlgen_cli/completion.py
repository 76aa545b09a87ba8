"""What the shell offers when TAB is pressed (`evlgen --install-completion`): names, asked for only then."""


def recipe(incomplete: str) -> list[str]:
    """Recipes that come with evlgen; where none fits the shell goes on with files."""
    from evlgen.recipes import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def export_format(incomplete: str) -> list[str]:
    """Formats of `evlgen export`."""
    from evlgen.exports import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def model(incomplete: str) -> list[str]:
    """Models that come with evlgen; where none fits the shell goes on with folders."""
    from evlgen.weights.named_models import packaged_models

    return [name for name in packaged_models() if name.startswith(incomplete)]


def model_or_recipe(incomplete: str) -> list[str]:
    """Both."""
    return model(incomplete) + recipe(incomplete)
