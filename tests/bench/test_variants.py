"""Ways to fewer tokens beside merging: which tokens are left, by slow loops and by torch's own pooling of the grid."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evlgen.bench.flops import count_model
from evlgen.bench.variants import (
    Shaper,
    drop_at_random,
    drop_by_stride,
    largest_grid,
    pool_grid,
    reducing,
    smaller_pictures,
    variants,
)
from evlgen.errors import UsageError
from evlgen.modeling.skeleton import build_skeleton
from tests.modeling.conftest import KINDS, TINY_CNN, TINY_VIT, tiny_config, tiny_model, with_connector

ALL = ("random", "stride", "pool", "small", "frames")


def test_tokens_by_arithmetic() -> None:
    """10 tokens, 2 of them merged in each of 2 layers: 8, then 6; a class token and 2 x 2 patches are 5 of at most 6.

    48 px are 3 x 3 patches, of which 2 x 2 are nearest to both; 6 of 10 tokens of 3 frames are those of 1.8 frames.
    """
    found = variants(tiny_config(), ("0", "2", "[1,0]"), ALL, prefix=1)
    assert {name: (one.tokens_per_layer, one.way, one.r) for name, one in found.items()} == {
        "r=0": ((10, 10), "merge", "0"),
        "r=2": ((8, 6), "merge", "2"),
        "r=[1,0]": ((9, 9), "merge", "[1,0]"),
        "q-former": ((32,), "qformer", ""),
        "random r=2": ((8, 6), "random", "2"),
        "random r=[1,0]": ((9, 9), "random", "[1,0]"),
        "stride r=2": ((8, 6), "stride", "2"),
        "stride r=[1,0]": ((9, 9), "stride", "[1,0]"),
        "pool 2x2": ((5, 5), "pool", "2"),
        "pool 2x3": ((7, 7), "pool", "[1,0]"),
        "32 px": ((5, 5), "small", "2"),
        "2 frames": ((10, 10), "frames", "2"),
    }
    assert [one.soft_prompts for one in variants(tiny_config(fusion="concat"), ("2",), ("frames",), 1).values()] == [
        6 * 3, 32 * 3, 10 * 2,
    ]  # fmt: skip
    assert list(variants(with_connector(tiny_config(), **KINDS["mlp"]), ("0", "2"), ALL)) == ["mlp"]
    assert variants(tiny_config(), ("5",))["r=5"].tokens_per_layer == (6, 4), "a number is cut to what can be merged"
    with pytest.raises(UsageError, match=r"merges 5 tokens in layer 1, but of 10 tokens 4 can be merged at most"):
        variants(tiny_config(), ("[5,0]",))


def test_the_largest_grid() -> None:
    for tokens in range(1, 300):
        grids = [(side, side + wider) for side in range(1, 20) for wider in (0, 1) if side * (side + wider) <= tokens]
        assert largest_grid(tokens) == max(grids, key=lambda grid: grid[0] * grid[1])
    assert largest_grid(0) is None


def test_towers_that_take_smaller_pictures() -> None:
    vit, cnn = smaller_pictures(TINY_VIT, 6, 1), smaller_pictures(TINY_CNN, 5, 0)
    assert vit is not None
    assert cnn is not None
    assert (vit.image_size, vit.tokens, vit.arguments["img_size"], vit.width) == (32, 5, 32, 32)
    assert (cnn.image_size, cnn.tokens, cnn.arguments) == (64, 4, {})


@pytest.mark.parametrize("protect", [True, False])
def test_dropping_keeps_the_chosen_tokens_as_they_are(protect: bool) -> None:
    layer = tiny_model(tiny_config(protect_first=protect)).connector.encoder.layers[0]
    x = torch.arange(50.0).reshape(5, 10, 1) + torch.zeros(5, 10, 3)
    sizes = torch.arange(50.0).reshape(5, 10) + 1
    torch.manual_seed(3)
    chance = torch.rand(5, 10).numpy()
    torch.manual_seed(3)
    kept, kept_sizes, destination = drop_at_random(layer, x, sizes, x, 4)
    assert destination is None
    if protect:
        chance[:, 0] = 2
    for item in range(5):  # those six that drew the highest numbers, in their order
        wanted = sorted(np.argsort(chance[item])[4:].tolist())
        assert kept[item].tolist() == [[item * 10.0 + token] * 3 for token in wanted]
        assert kept_sizes[item].tolist() == [item * 10.0 + token + 1 for token in wanted]
        assert not protect or wanted[0] == 0
    even, _, _ = drop_by_stride(layer, x, sizes, x, 6)
    assert even[0, :, 0].tolist() == [0, 3, 6, 9]
    for r in range(1, 10):
        places = drop_by_stride(layer, x, sizes, x, r)[0][0, :, 0].tolist()
        assert len(set(places)) == 10 - r
        gaps = np.diff(places)
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_pooling_is_torchs_own_of_the_grid() -> None:
    x = torch.randn(2, 1 + 36, 8)
    pooled = pool_grid(x, 1, (3, 3))
    assert torch.equal(pooled[:, 0], x[:, 0])
    patches = x[:, 1:].reshape(2, 6, 6, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(pooled[:, 1:], F.avg_pool2d(patches, 2).permute(0, 2, 3, 1).reshape(2, 9, 8))


def test_layers_drop_as_many_as_they_would_merge_and_merge_again_afterwards() -> None:
    model = tiny_model()
    features = torch.randn(2, 3, 10, 32)
    merged = model.soft_prompts(features)
    seen: list[int] = []
    layers = model.connector.encoder.layers
    hooks = [one.register_forward_hook(lambda _, given, out: seen.append(out[0].shape[1])) for one in layers]
    for name, one in variants(model.config, ("2",), ALL, 1).items():
        if one.way in ("random", "stride", "pool"):
            with reducing(model.connector, one):
                assert model.soft_prompts(features).shape[1] == one.soft_prompts, name
            assert tuple(seen[-2:]) == one.tokens_per_layer
    for hook in hooks:
        hook.remove()
    assert torch.equal(model.soft_prompts(features), merged)


@pytest.mark.parametrize("vision", [TINY_VIT, TINY_CNN], ids=["vit", "cnn"])
def test_smaller_pictures_go_through_the_same_weights(vision: object) -> None:
    """A picture of one colour is one token many times, whatever its size: a CNN without borders would not tell."""
    fusion = "temporal" if vision is TINY_CNN else "mean"
    model = tiny_model(tiny_config(vision, fusion, protect_first=False, r=1))  # type: ignore[arg-type]
    prefix = model.vision.prefix_tokens
    small = next(one for one in variants(model.config, ("1",), ("small",), prefix).values() if one.way == "small")
    before, tower = model.state_dict(), model.vision
    side = small.config.vision.image_size
    with Shaper(model).shaped(small):
        assert model.encode(torch.zeros(1, 3, 3, side, side)).shape[2] == small.config.vision.tokens
        assert model.soft_prompts(model.encode(torch.randn(1, 3, 3, side, side))).shape[1] == small.soft_prompts
        own = {name: value for name, value in model.vision.state_dict().items() if "pos_embed" not in name}
        assert own
        assert all(torch.equal(value, before[f"vision.{name}"]) for name, value in own.items())
    assert model.vision is tower
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.generate(torch.randn(1, 3, 3, vision.image_size, vision.image_size)).texts  # type: ignore[attr-defined]


@pytest.mark.slow
def test_flops_of_baselines() -> None:
    """Dropping is merging without its similarities; pooled layers are those of so many tokens."""
    config = tiny_config(fusion="concat")
    skeleton = build_skeleton(config)
    compared = variants(config, ("0", "2"), ALL, 1)
    found = {one.name: one for one in count_model(skeleton, compared, 3, lambda done, total: None)}
    heads, width, frames = 4, 24, 3
    similarities = sum(2 * (tokens // 2) * (tokens // 2) * (width // heads) for tokens in (10, 8))  # of A and B tokens
    assert found["r=2"].connector - found["random r=2"].connector == frames * similarities
    assert found["stride r=2"].connector == found["random r=2"].connector
    assert found["2 frames"].connector * 3 == found["r=0"].connector * 2
    assert found["2 frames"].caption.vision * 3 == found["r=0"].caption.vision * 2
    assert found["2 frames"].soft_prompts == 20
    assert found["32 px"].caption.vision < found["r=0"].caption.vision / 1.5

    assert found["pool 2x2"].connector - frames * 10 * 32 * 24 * 2 == pytest.approx(
        found["32 px"].connector - frames * 5 * 32 * 24 * 2
    )
