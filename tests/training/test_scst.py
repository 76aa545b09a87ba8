"""Expected gradients by enumeration against the exact policy gradient; formulas against numbers worked by hand.

Nothing here is sampled: the expectation of the estimator runs over every tuple of K captions of a model whose whole
caption space is written down (tests/modeling/sampling_space.py), and the truth is autograd on the enumerated expected
reward, whose probabilities come from transformers' own processors without cache or packing.
"""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from evlgen.errors import UsageError
from evlgen.modeling.rescoring import sampled_log_probabilities
from evlgen.modeling.sampling import sample_captions
from evlgen.training.scst import (
    SampleReport,
    advantages,
    kl_penalty,
    mixed_loss,
    report,
    self_critical_loss,
)
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT
from tests.modeling.sampling_space import Space, caption_space, enumerable_model

OPT: dict[str, object] = {**TINY_OPT, "init_std": 0.2, "tie_word_embeddings": False}
LLAMA: dict[str, object] = {**TINY_LLAMA, "initializer_range": 0.2}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"top_p": 0.9},
    {"min_new_tokens": 2},
    {"temperature": 1.5, "top_p": 0.95, "min_new_tokens": 1},
]


class Enumerated:
    """All captions of one video: rewards, exact probabilities, and the log-probabilities that training uses."""

    def __init__(self, llm: dict[str, object], setting: dict[str, Any]) -> None:
        self.model = enumerable_model(llm)
        torch.manual_seed(0)
        with torch.no_grad():
            soft = self.model.soft_prompts(torch.randn(1, 1, 10, 32, dtype=torch.float64))
            prefix = self.model.prefix(soft)
        self.prefix = prefix.requires_grad_(True)
        self.space: Space = caption_space(self.model.language, self.prefix[0], max_new_tokens=3, **setting)
        self.reward = torch.rand(len(self.space.ids), dtype=torch.float64)
        self.p = self.space.log_p.exp()
        self.ours = sampled_log_probabilities(self.model, self.prefix, self.space.captions(), **setting)[0]
        _, best = sample_captions(self.model.language, self.prefix, samples=0, greedy=True, max_new_tokens=3, **setting)
        assert best is not None
        self.greedy = self.space.ids.index(best.token_ids()[0][0])

    def gradient(self, scalar: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(scalar, self.prefix, retain_graph=True)
        return gradient

    def exact(self) -> Tensor:
        return self.gradient((self.p * self.reward).sum())

    def estimated(self, samples: int, baseline: Any, rewards: Tensor | None = None, **options: Any) -> Tensor:
        """The expectation of minus the gradient of the loss over all tuples of independent samples."""
        tuples = torch.tensor(list(product(range(len(self.p)), repeat=samples)))
        rewards = self.reward if rewards is None else rewards
        greedy = rewards[self.greedy].expand(len(tuples))
        advantage = advantages(rewards[tuples], baseline, greedy_B=greedy, **options)
        weight = self.p.detach()[tuples].prod(1, keepdim=True)
        loss = self_critical_loss(self.ours[tuples], weight * advantage)  # linear in the advantage
        return self.gradient(-loss / samples)


def close(ours: Tensor, want: Tensor) -> None:
    assert want.abs().max() > 1e-3, "a gradient to speak of"
    torch.testing.assert_close(ours, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("llm", [LLAMA, OPT], ids=["llama", "opt"])
def test_expected_gradient_is_the_policy_gradient(llm: dict[str, object], setting: dict[str, Any]) -> None:
    space = Enumerated(llm, setting)
    torch.testing.assert_close(space.ours.exp().sum().item(), 1.0, atol=1e-6, rtol=0)
    exact = space.exact()
    for samples, baseline in [(1, "none"), (1, "greedy"), (2, "greedy"), (2, "mean"), (3, "mean")]:
        close(space.estimated(samples, baseline), exact)


def test_other_baselines_have_the_bias_that_is_documented() -> None:
    space = Enumerated(OPT, {})
    exact = space.exact()
    for samples in (2, 3):
        close(space.estimated(samples, "beam-mean"), exact * (1 - 1 / samples))
    normalised = space.estimated(2, "mean", normalise=True)
    direction = torch.cosine_similarity(normalised.flatten(), exact.flatten(), dim=0)
    assert direction < 0.999, "another objective"


def test_probabilities_of_another_distribution_would_be_wrong() -> None:
    """What goes wrong when log p is that of the plain model though samples came from a sharper one."""
    space = Enumerated(OPT, {"temperature": 0.7})
    plain = sampled_log_probabilities(space.model, space.prefix, space.space.captions())[0]
    wrong = space.gradient((space.p.detach() * space.reward * plain).sum())
    assert (wrong - space.exact()).abs().max() > 1e-2


@pytest.mark.parametrize("baseline", ["mean", "greedy"])
def test_expected_gradient_with_a_kl_penalty(baseline: Any) -> None:
    space = Enumerated(OPT, {"temperature": 0.8, "min_new_tokens": 1})
    start = (space.space.log_p.detach() + 0.5 * torch.randn(len(space.p), dtype=torch.float64)).log_softmax(0)
    kl = (space.p * (space.p.log() - start)).sum()
    penalty = kl_penalty(space.ours, start)
    torch.testing.assert_close((space.p * penalty).sum().item(), kl.item(), atol=1e-6, rtol=0)
    exact = space.gradient((space.p * space.reward).sum() - 0.3 * kl)
    close(space.estimated(2, baseline, rewards=space.reward - 0.3 * penalty), exact)


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    greedy = torch.tensor([2.0, 5.0])
    assert advantages(rewards, "greedy", greedy_B=greedy).tolist() == [[-1, 0, 4], [-1, -1, -1]]
    assert advantages(rewards, "mean").tolist() == [[-3, -1.5, 4.5], [0, 0, 0]]
    assert advantages(rewards, "beam-mean").tolist() == [[-2, -1, 3], [0, 0, 0]]
    assert advantages(rewards, "none").tolist() == rewards.tolist()
    spread = 7**0.5  # ((-2)^2 + (-1)^2 + 3^2) / 2
    want = torch.tensor([[-3, -1.5, 4.5], [0, 0, 0]]) / torch.tensor([[spread], [1.0]])
    torch.testing.assert_close(advantages(rewards, "mean", normalise=True), want)


def test_equal_rewards_have_no_advantage_whatever_rounding_says() -> None:
    for value in (0.1, 0.7, 1 / 3):
        rewards = torch.full((1, 7), value)
        assert advantages(rewards, "mean").tolist() == [[0.0] * 7]
        assert advantages(rewards, "mean", normalise=True).tolist() == [[0.0] * 7]


def test_loss_by_hand() -> None:
    log_p = torch.tensor([[-2.0, -6.0], [-3.0, -4.0]], requires_grad=True)
    advantage = torch.tensor([[1.0, -1.0], [0.5, 0.0]], requires_grad=True)
    counts = torch.tensor([[2, 3], [1, 4]])
    loss = self_critical_loss(log_p, advantage)
    assert loss.item() == 2 - 6 + 1.5
    loss.backward()
    assert log_p.grad is not None
    assert log_p.grad.tolist() == [[-1, 1], [-0.5, 0]]
    assert advantage.grad is None
    # arXiv 2502.13363: reward minus the mean of the beams, times log-probability per token
    assert self_critical_loss(log_p, advantage, counts).item() == 1 - 2 + 1.5
    assert mixed_loss(torch.tensor(4.0), torch.tensor(2.0), 0.25).item() == 3.5


def test_report_by_hand_and_in_parts() -> None:
    rewards = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 1.0]])
    advantage = advantages(rewards, "mean")
    ids = [[[1, 9], [2, 9]], [[1, 1, 9], [1, 1, 9]], [[4, 4, 4], [9]]]
    ended = torch.tensor([[True, True], [True, True], [False, True]])
    greedy = torch.tensor([1.0, 2.0, 3.0])
    penalty = torch.tensor([[0.5, 1.5], [-1.0, 0.0], [2.0, 0.0]])
    whole = report(rewards, advantage, ids, ended, greedy, penalty)
    assert whole.means() == pytest.approx(
        {
            "reward": 1.5,
            "reward_spread": (2**0.5 + 0 + 0.5**0.5) / 3,
            "greedy_reward": 2.0,
            "advantage_size": (10 / 6) ** 0.5,  # -2, 2, 0, 0, -1, 1
            "zero_advantages": 1 / 3,
            "silent_videos": 1 / 3,
            "distinct_share": 5 / 6,
            "sample_tokens": 14 / 6,
            "cut_share": 1 / 6,
            "kl": 0.5,
        }
    )
    parts = SampleReport()
    for b in range(3):
        one = slice(b, b + 1)
        parts = parts + report(rewards[one], advantage[one], ids[one], ended[one], greedy[one], penalty[one])
    assert parts.means() == pytest.approx(whole.means())


def test_one_caption_is_too_few() -> None:
    with pytest.raises(UsageError, match="baseline 'mean' needs 2 or more captions of a video, there is 1"):
        advantages(torch.ones(3, 1), "mean")
    with pytest.raises(UsageError, match="normalised advantages need 2 or more"):
        advantages(torch.ones(3, 1), "none", normalise=True)
