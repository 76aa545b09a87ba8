"""When a run stops by itself, on series of losses."""

import math

import pytest

from evlgen.training.guards import LOSS_LEARN, PATIENCE, SKIPS, LossGuard


def feed(guard: LossGuard, losses: list[float], norm: float = 1.0) -> str:
    return next((wrong for loss in losses if (wrong := guard.check(loss, norm))), "")


def test_what_is_not_finite_stops_at_once() -> None:
    assert feed(LossGuard(3.0), [2.0, math.nan]) == "loss is nan and gradient norm 1.0"
    assert feed(LossGuard(0.0), [2.0], math.inf) == "loss is 2.0 and gradient norm inf"


def test_a_loss_that_stays_high_stops_and_a_peak_does_not() -> None:
    calm = [2.0] * LOSS_LEARN
    assert feed(LossGuard(3.0), [*calm, 9.0, 9.0, 2.0] * 5) == ""
    guard = LossGuard(3.0)
    assert feed(guard, [*calm, *[7.0] * (PATIENCE - 1)]) == ""
    assert not guard.calm, "no checkpoint of an explosion"
    assert feed(guard, [7.0]) == f"loss has been above 3 times its median of 2.00 for {PATIENCE} steps"
    assert feed(LossGuard(0.0), [*calm, *[700.0] * 50]) == ""


def test_falling_and_slowly_rising_losses_are_no_explosion() -> None:
    assert feed(LossGuard(3.0), [10 * 0.97**k for k in range(300)]) == ""
    assert feed(LossGuard(3.0), [0.01 + 2.5 * (k % 9 == 0) for k in range(300)]) == "", "learned by heart"
    assert feed(LossGuard(3.0), [9.0, 8.0, 30.0, 25.0, 7.0]) == "", "the first steps"


def test_float16_may_skip_steps_while_its_scale_is_found() -> None:
    guard = LossGuard(3.0, scaled=True)
    assert feed(guard, [2.0] * SKIPS, math.inf) == ""
    assert feed(guard, [2.0], 1.0) == ""
    assert feed(guard, [2.0] * (SKIPS + 1), math.inf) == f"gradient norm was not finite for {SKIPS + 1} steps"


def test_a_resumed_guard_decides_as_one_that_never_stopped() -> None:
    losses = [2.0] * 30 + [7.0] * 20
    for cut in (3, 25, 33):
        whole, part, rest = LossGuard(3.0), LossGuard(3.0), LossGuard(3.0)
        feed(part, losses[:cut])
        rest.state = type(rest.state)(**part.state.model_dump())
        answers = [[g.check(x, 1.0) for x in losses[cut:]] for g in (rest,)]
        expected = [whole.check(x, 1.0) for x in losses][cut:]
        assert answers == [expected]
        assert pytest.approx(rest.state.losses) == whole.state.losses
