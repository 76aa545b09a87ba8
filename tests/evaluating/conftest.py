"""What tests of captioning use as well."""

from tests.captioning.conftest import captioner, model_folder, videos  # noqa: F401
