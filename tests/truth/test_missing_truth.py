"""What would be true of those who stopped: laws of copy reference and of a shift, checked by potential outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from kapstats.certification.estimators import scenario
from kapstats.simulation.truth import compute
from kapstats.simulation.truth.missing import copied, difference_under, worsened
from kapstats.simulation.truth.worlds import worlds

OPEN = scenario("kap-open-scale")


def values(rows, strategy):
    return [r["value"] for r in rows if r["strategy"] == strategy]


def test_nobody_differs_where_no_arm_does():
    assert values(difference_under(OPEN.null(), copied, "copy reference", n=4000), "copy reference") == [0.0] * 3


def test_copy_reference_keeps_part_of_the_effect_shown():
    """Between jump to reference, which keeps none, and staying on the drug; those who stopped before the first visit
    had shown none and are on the reference's course."""
    known = compute(OPEN, n=20_000, parts=["response"])["mean_difference"]
    jump, stays = (values(known, s) for s in ("jump to reference", "hypothetical"))
    kept = values(difference_under(OPEN, copied, "copy", n=20_000), "copy")
    assert kept[0] == pytest.approx(jump[0], abs=0.02)
    assert all(s < k < j for s, k, j in zip(stays[1:], kept[1:], jump[1:], strict=True))
    reference, active = next(iter(worlds(OPEN, 500, ["response"])))
    never = active.disposition.left == 0
    assert never.any()
    np.testing.assert_array_equal(copied(OPEN, active, reference)[never], reference.scores.score[never])


def test_copy_reference_is_the_mean_of_the_reference_arm_given_what_was_seen():
    """Regression of the reference arm's scores, applied to what the active arm had shown."""
    reference, active = next(iter(worlds(OPEN, 20_000, ["response"])))
    design = [np.column_stack([np.ones(20_000), d.scores.base, d.scores.score[:, :2]]) for d in (reference, active)]
    coefficient = np.linalg.lstsq(design[0], reference.scores.score[:, 2], rcond=None)[0]
    late = active.disposition.left == 2
    gap = copied(OPEN, active, reference)[late, 2] - (design[1] @ coefficient)[late]
    plain = reference.scores.score[late, 2] - (design[0] @ coefficient)[late]
    assert gap.mean() == pytest.approx(plain.mean(), abs=0.1)


def test_a_shift_adds_the_share_of_those_who_stopped():
    none, six = (values(difference_under(OPEN, worsened(d), "s", n=20_000), "s") for d in (0.0, 6.0))
    _, active = next(iter(worlds(OPEN, 20_000, ["response"])))
    gone = [(active.disposition.left <= v).mean() for v in range(3)]
    assert np.subtract(six, none) == pytest.approx(6.0 * np.array(gone), abs=1e-4)
