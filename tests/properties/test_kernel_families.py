"""Likelihoods of the generalised mixed models: values as in scipy, every derivative that of its value."""

import numpy as np
import pytest
from scipy.stats import binom, nbinom, poisson

from kapstats.kernels.families import Observations, evaluate, inverse_link, link_function, mean_slope

ETA = np.array([-3.0, -1.1, -0.2, 0.4, 1.3, 2.2])
CASES = [("binomial", link) for link in ("logit", "probit", "cloglog")]
CASES += [("poisson", "log"), ("negative-binomial", "log")]
CASES += [("cumulative", link) for link in ("logit", "probit", "cloglog")]


def observed(family, link, weight=1.0):
    y = np.array([0.0, 1, 2, 3, 1, 2]) if family != "cumulative" else np.array([0.0, 1, 2, 3, 0, 3])
    return Observations(family, link, y, np.full(6, 3.0), np.full(6, weight))


def parameters(family):
    return {"cumulative": np.array([-1.0, 0.3, 1.9]), "negative-binomial": np.array([0.7])}.get(family, np.zeros(0))


@pytest.mark.parametrize(("family", "link"), CASES)
def test_derivatives_are_those_of_the_values(family, link):
    obs, phi, h = observed(family, link, 2.0), parameters(family), 1e-5
    at, low, high = (evaluate(obs, ETA + step, phi) for step in (0.0, -h, h))
    for value, slope in (("l", "l1"), ("l1", "l2"), ("l2", "l3")):
        difference = (getattr(high, value) - getattr(low, value)) / (2 * h)
        np.testing.assert_allclose(getattr(at, slope), difference, rtol=1e-6, atol=1e-8, err_msg=slope)
    for j in range(phi.size):
        step = h * (np.arange(phi.size) == j)
        low, high = evaluate(obs, ETA, phi - step), evaluate(obs, ETA, phi + step)
        for value, slope in (("l", "p0"), ("l1", "p1"), ("l2", "p2")):
            difference = (getattr(high, value) - getattr(low, value)) / (2 * h)
            np.testing.assert_allclose(getattr(at, slope)[j], difference, rtol=1e-6, atol=1e-8, err_msg=slope)


@pytest.mark.parametrize(("family", "link"), CASES)
def test_values_are_log_probabilities(family, link):
    obs, phi = observed(family, link), parameters(family)
    mean = inverse_link(link, ETA)
    if family == "binomial":
        expected = binom.logpmf(obs.y, 3, mean)
    elif family == "poisson":
        expected = poisson.logpmf(obs.y, mean)
    elif family == "negative-binomial":
        size = np.exp(phi[0])
        expected = nbinom.logpmf(obs.y, size, size / (size + mean))
    else:
        edges = np.concatenate([[-np.inf], phi, [np.inf]])
        k = obs.y.astype(int)
        below = [
            np.where(np.isinf(e), e > 0, inverse_link(link, np.where(np.isinf(e), 0.0, e) - ETA))
            for e in (edges[k + 1], edges[k])
        ]
        expected = np.log(below[0] - below[1])
    np.testing.assert_allclose(evaluate(obs, ETA, phi).l, expected, rtol=1e-11)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "log"])
def test_links_come_back_and_have_their_slope(link):
    np.testing.assert_allclose(link_function(link, inverse_link(link, ETA)), ETA, rtol=1e-10)
    slope = (inverse_link(link, ETA + 1e-6) - inverse_link(link, ETA - 1e-6)) / 2e-6
    np.testing.assert_allclose(mean_slope(link, ETA), slope, rtol=1e-7)
