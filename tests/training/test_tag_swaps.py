"""Tags and words that are exchanged together: what is exchanged, what stays, and the way from a recipe."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language import FrozenLanguageModel
from evlgen.modeling.packing import PromptedIds
from evlgen.modeling.tags import Tag, class_names
from evlgen.recipes.schema import TagSwap
from evlgen.training import train
from evlgen.training.tag_swaps import TagSwapper
from tests.modeling.conftest import tiny_config, tiny_model
from tests.training.conftest import make_recipe

DOG, ELEPHANT, JEEP = class_names(1000)[151], class_names(1000)[386], class_names(1000)[609]
ANIMALS: dict[str, Any] = {"words": ["dog", "dogs"], "classes": [(151, 268)], "others": [(386, 386)], "share": 1.0}


@pytest.fixture(scope="module")
def language() -> FrozenLanguageModel:
    found = tiny_model(tiny_config()).language
    assert isinstance(found, FrozenLanguageModel)
    return found


def swapped(language: FrozenLanguageModel, names: list[str], caption: str, **changes: Any) -> tuple[list[str], str]:
    swapper = TagSwapper([TagSwap(**{**ANIMALS, **changes})], language, 1000)
    tags, ids = swapper.swap([Tag(name, 0.5) for name in names], language.encode_caption(caption))
    assert ids[-1] == language.end_token_id
    return [tag.name for tag in tags], language.tokenizer.decode(ids[:-1])


def test_the_tag_and_its_word_become_another_class(language: FrozenLanguageModel) -> None:
    other = ELEPHANT.lower()
    assert swapped(language, [JEEP, DOG], "a dog by a jeep") == ([ELEPHANT, JEEP], f"an {other} by a jeep")
    assert swapped(language, [DOG], "two dogs run") == ([ELEPHANT], f"two {other}s run")
    assert swapped(language, [DOG], "Dan has a dog") == ([ELEPHANT], f"Dan has an {ELEPHANT}")


@pytest.mark.parametrize(
    ("names", "caption", "changes"),
    [
        ([JEEP], "a dog by a jeep", {}),  # the tower does not see it
        ([DOG], "a hotdog", {}),  # nobody says it
        ([], "a dog", {}),
        ([DOG], "a dog", {"share": 1e-9}),
    ],
)
def test_the_rest_stays(language: FrozenLanguageModel, names: list[str], caption: str, changes: dict[str, Any]) -> None:
    assert swapped(language, names, caption, **changes) == (names, caption)


def test_share_is_the_share_that_is_exchanged_and_others_are_all_taken(language: FrozenLanguageModel) -> None:
    torch.manual_seed(0)
    found = [swapped(language, [DOG], "a dog", share=0.3, others=[(0, 1), (5, 5)])[0][0] for _ in range(400)]
    others = {class_names(1000)[number] for number in (0, 1, 5)}
    assert {name for name in found if name != DOG} == others
    assert 0.2 < sum(name != DOG for name in found) / len(found) < 0.4


def test_items_with_several_captions_or_with_prompts_stay(language: FrozenLanguageModel) -> None:
    swapper = TagSwapper([TagSwap(**ANIMALS)], language, 1000)
    one = language.encode_caption("a dog")
    prompted = PromptedIds(one, (1, 2))
    tags, captions = swapper.swap_all([[Tag(DOG, 0.5)]] * 3, [[one], [one, one], [prompted]])
    assert [own[0].name for own in tags] == [ELEPHANT, DOG, DOG]
    assert captions[0] != [one]
    assert captions[1:] == [[one, one], [prompted]]


@pytest.mark.parametrize(
    ("model", "swap", "text"),
    [
        ({}, {}, "the model has none: set model.tags"),
        ({"tags": {}}, {"others": [(0, 1000)]}, "names class 1000, and model.tags.classes are 0 to 999"),
        ({"tags": {}}, {"classes": [(5, 4)]}, "expected ranges of classes, the lower one first"),
    ],
)
def test_a_recipe_whose_swaps_cannot_be_is_refused(
    pictures: Any, model: dict[str, Any], swap: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        make_recipe(pictures, model=model, train={"tag_swaps": [{**ANIMALS, **swap}]})


def test_a_run_learns_from_exchanged_captions_and_validates_on_what_people_wrote(
    pictures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[str] = []
    real = EVLGenForConditionalGeneration.caption_loss

    def heard(model: Any, soft: Any, captions: Any, **options: Any) -> Any:
        if options:  # label smoothing is given in training only
            learned.extend(model.language.tokenizer.decode(list(one)[:-1]) for own in captions for one in own)
        return real(model, soft, captions, **options)

    monkeypatch.setattr(EVLGenForConditionalGeneration, "caption_loss", heard)
    every = {"words": ["box"], "classes": [(0, 999)], "others": [(386, 386)], "share": 1.0}
    recipe = make_recipe(
        pictures, model={"tags": {"threshold": 1e-4}}, train={"tag_swaps": [every], "steps": 3, "label_smoothing": 0.1}
    )
    train(recipe, folder=tmp_path / "run", device="cpu")
    assert learned
    assert all(caption.endswith((ELEPHANT.lower(), f"{ELEPHANT.lower()} .")) for caption in learned)
