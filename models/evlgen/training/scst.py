"""Self-critical sequence training as pure functions of rewards and log-probabilities.

Rennie et al., arXiv 1612.00563, section 3: captions c_1 .. c_K of a video are drawn from p, the model's distribution,
and the gradient of the expected reward is estimated by

    grad E[r] = E[ 1/K sum_k (r(c_k) - b_k) grad log p(c_k) ]                                              (1)

which holds for every baseline b_k that does not depend on c_k. The baselines:

    greedy      b_k = r(greedy caption)                                       arXiv 1612.00563                (2)
    mean        b_k = 1/(K-1) sum_{j != k} r(c_j)                             Luo, arXiv 2003.09971           (3)
    beam-mean   b_k = 1/K sum_j r(c_j), for the K beams of a beam search      arXiv 2502.13363                (4)
    none        b_k = 0                                                                                       (5)

With (2), (3) and (5), independent samples and no normalisation, (1) is unbiased. (4) is not: beams are not samples
from p, and c_k is part of its own baseline (for samples that alone would shrink the gradient by 1 - 1/K).

Shapes: B videos, K captions of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evlgen.errors import UsageError

Baseline = Literal["greedy", "mean", "beam-mean", "none"]

SPREAD_FLOOR = 1e-4
"""In units of the reward: below, rewards of a video count as equal."""


def advantages(
    rewards_BK: Tensor, baseline: Baseline, *, greedy_B: Tensor | None = None, normalise: bool = False
) -> Tensor:
    """(B, K): reward minus baseline, equations (2) to (5). A constant: no gradient passes.

    Args:
        rewards_BK: of the sampled captions.
        baseline: what is subtracted.
        greedy_B: rewards of the greedy captions; for `greedy` only.
        normalise: divide by the standard deviation of a video's rewards. This weighs videos by the inverse of their
            spread: it is no longer the gradient of the mean reward.

    Raises:
        UsageError: one caption a video where the baseline or the spread needs two.
    """
    rewards = rewards_BK.detach()
    count = rewards.shape[1]
    if baseline == "greedy":
        assert greedy_B is not None, "give greedy_B"
        advantage = rewards - greedy_B.detach().unsqueeze(1)
    elif baseline == "none":
        advantage = rewards.clone()
    else:
        _needs_two(count, f"baseline {baseline!r} needs")
        advantage = rewards - rewards.mean(1, keepdim=True)
        if baseline == "mean":
            advantage = advantage * (count / (count - 1))  # equals r_k minus the mean of the others
        # equal rewards can differ from their mean by rounding; 0 is told apart from little by those who count
        noise = 8 * torch.finfo(rewards.dtype).eps * rewards.abs().amax(1, keepdim=True)
        advantage = advantage.masked_fill(advantage.abs() <= noise, 0)
    if normalise:
        _needs_two(count, "normalised advantages need")
        advantage = advantage / rewards.std(1, keepdim=True).clamp(min=SPREAD_FLOOR)
    return advantage


def self_critical_loss(log_p_BK: Tensor, advantages_BK: Tensor, token_counts_BK: Tensor | None = None) -> Tensor:
    """The sum over all captions of -(A * log p); over B * K it is minus the estimate (1), averaged over videos.

    A sum, so that micro-batches add up; divide by the captions of the whole step.

    Args:
        log_p_BK: log-probabilities of whole captions under the distribution that was sampled, with a graph.
        advantages_BK: from `advantages`.
        token_counts_BK: divide each log-probability by the caption's tokens, end token included (arXiv 2502.13363);
            the estimate is biased then, towards changing short captions.
    """
    score = log_p_BK if token_counts_BK is None else log_p_BK / token_counts_BK
    return -(advantages_BK.detach() * score).sum()


def kl_penalty(log_p_BK: Tensor, start_log_p_BK: Tensor) -> Tensor:
    """(B, K): log p(c) - log p_0(c), an unbiased estimate of KL(p || p_0) in nats from captions drawn from p.

    A single value can be negative. Subtract `weight * kl_penalty` from the rewards before `advantages`: then (1) is
    an unbiased estimate of the gradient of E[r] - weight * KL(p || p_0), because E[grad log p] = 0. As a term of the
    loss it would not be: its own derivative is grad log p, whose mean is 0. A constant: no gradient passes.

    Args:
        log_p_BK: under the distribution that was sampled.
        start_log_p_BK: of the same captions under the same temperature, nucleus and shortest length with the soft
            prompts of the starting model. Its nucleus can lack a token that was drawn, so use no top-p with it.
    """
    return log_p_BK.detach() - start_log_p_BK.detach()


def mixed_loss(scst_loss: Tensor, caption_loss: Tensor, caption_weight: float) -> Tensor:
    """(1 - w) * SCST + w * caption loss (mean negative log-likelihood of reference tokens), both as means."""
    return (1 - caption_weight) * scst_loss + caption_weight * caption_loss


@dataclass(frozen=True)
class SampleReport:
    """What to watch. Sums over videos, so that micro-batches and processes add up; `means` divides.

    Attributes:
        videos, captions: how many there were.
        reward: sum over captions.
        spread: sum over videos of the standard deviation of their rewards (0 with one caption).
        greedy: sum over videos of the greedy captions' rewards; 0 without them.
        zero: captions with advantage 0: they teach nothing.
        silent: videos all of whose advantages are 0.
        distinct: sum over videos of different captions.
        tokens: of all captions, end tokens included.
        cut: captions without an end token.
        squares: sum of squared advantages.
        kl: sum over captions of `kl_penalty`; 0 without it.
    """

    videos: float = 0
    captions: float = 0
    reward: float = 0
    spread: float = 0
    greedy: float = 0
    zero: float = 0
    silent: float = 0
    distinct: float = 0
    tokens: float = 0
    cut: float = 0
    squares: float = 0
    kl: float = 0

    def __add__(self, other: SampleReport) -> SampleReport:
        return SampleReport(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def means(self) -> dict[str, float]:
        """What the log has.

        Per caption: reward, advantage_size (root mean square), zero_advantages (a share), distinct_share (different
        captions of a video over its captions), sample_tokens, cut_share (a share), kl (nats). Per video: reward_spread,
        greedy_reward, silent_videos (a share).
        """
        captions, videos = max(self.captions, 1), max(self.videos, 1)
        return {
            "reward": self.reward / captions,
            "greedy_reward": self.greedy / videos,
            "reward_spread": self.spread / videos,
            "advantage_size": (self.squares / captions) ** 0.5,
            "zero_advantages": self.zero / captions,
            "silent_videos": self.silent / videos,
            "distinct_share": self.distinct / captions,
            "sample_tokens": self.tokens / captions,
            "cut_share": self.cut / captions,
            "kl": self.kl / captions,
        }


def report(
    rewards_BK: Tensor,
    advantages_BK: Tensor,
    token_ids: Sequence[Sequence[Sequence[int]]],
    ended_BK: Tensor,
    greedy_B: Tensor | None = None,
    penalty_BK: Tensor | None = None,
) -> SampleReport:
    """Figures of a batch.

    Args:
        rewards_BK: of the sampled captions.
        advantages_BK: from `advantages`.
        token_ids: of the captions, per video.
        ended_BK: whether the end token was drawn.
        greedy_B: rewards of the greedy captions, if there are any.
        penalty_BK: from `kl_penalty`, if it was computed.
    """
    videos, count = rewards_BK.shape
    zero = advantages_BK == 0
    return SampleReport(
        videos=videos,
        captions=videos * count,
        reward=rewards_BK.sum().item(),
        spread=rewards_BK.double().std(1).sum().item() if count > 1 else 0.0,
        greedy=0.0 if greedy_B is None else greedy_B.sum().item(),
        zero=zero.sum().item(),
        silent=zero.all(1).sum().item(),
        distinct=sum(len({tuple(ids) for ids in item}) for item in token_ids),
        tokens=sum(len(ids) for item in token_ids for ids in item),
        cut=(~ended_BK).sum().item(),
        squares=advantages_BK.double().square().sum().item(),
        kl=0.0 if penalty_BK is None else penalty_BK.sum().item(),
    )


def _needs_two(count: int, what: str) -> None:
    if count < 2:
        raise UsageError(f"{what} 2 or more captions of a video, there is {count}", "raise scst.samples")
