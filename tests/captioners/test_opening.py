"""Which captioner a `--model` names, and what is refused before anything is loaded."""

import pytest

from evlgen.captioners.opening import BY_PREFIX, EVLGEN, kind_of
from evlgen.captioners.protocol import LoadOptions
from evlgen.errors import UsageError


@pytest.mark.parametrize("model", ["evlgen-mini", "./folder", "owner/name@main", "C:\\models\\mine", ":", "odd:name"])
def test_what_has_no_known_prefix_is_ours(model: str) -> None:
    assert kind_of(model) is EVLGEN


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (LoadOptions(system_prompt="Be brief."), "--system-prompt"),
        (LoadOptions(load_in="4bit"), "--load-in"),
        (LoadOptions(trust_remote_code=True), "--trust-remote-code"),
    ],
)
def test_options_that_a_kind_does_not_take_are_refused(options: LoadOptions, named: str) -> None:
    with pytest.raises(UsageError, match=f"{named} means nothing to EVLGen's own models"):
        EVLGEN.refuse(options)


def test_only_our_own_models_merge_by_another_schedule() -> None:
    EVLGEN.refuse(LoadOptions(r="8"))
    with pytest.raises(UsageError, match="--r means nothing to an endpoint"):
        BY_PREFIX["openai"].refuse(LoadOptions(r="8"))


def test_the_usual_options_are_taken() -> None:
    EVLGEN.refuse(LoadOptions("cpu", "float32", "a video of", 9))
