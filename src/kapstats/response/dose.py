"""Dose-response curves through LS means, with their covariance: fits, averaging, target dose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray
from kapstats.errors import DataError, EstimabilityError, FormulaError, choose, first_ids
from kapstats.estimates import Estimates, meta, sealed
from kapstats.inference.intervals import check_level, with_inference
from kapstats.kernels.multivariate_t import mvt_p_values
from kapstats.response.curves import Curve, Model, akaike_weights, fit_curves, refits, warn_edges


def _power(d: FloatArray, t: FloatArray) -> FloatArray:
    """d^h / (ed50^h + d^h) for theta rows (ed50, h)."""
    return d ** t[:, [1]] / (t[:, [0]] ** t[:, [1]] + d ** t[:, [1]])


def _linear(d: FloatArray, t: FloatArray) -> FloatArray:
    return d[None, :, None]


def _quadratic(d: FloatArray, t: FloatArray) -> FloatArray:
    return np.stack([d, d**2], axis=1)[None]


def _emax(d: FloatArray, t: FloatArray) -> FloatArray:
    return (d / (t + d))[..., None]


def _sigmoid(d: FloatArray, t: FloatArray) -> FloatArray:
    return _power(d, t)[..., None]


def _exponential(d: FloatArray, t: FloatArray) -> FloatArray:
    return np.expm1(d / t)[..., None]


MODELS: dict[str, Model] = {
    "linear": Model(("e0", "slope"), (), (), _linear),
    "quadratic": Model(("e0", "b1", "b2"), (), (), _quadratic),
    "emax": Model(("e0", "emax"), ("ed50",), ((0.01, 3.0),), _emax),
    "sigmoid-emax": Model(
        ("e0", "emax"),
        ("ed50", "hill"),
        ((0.01, 3.0), (0.3, 8.0)),
        _sigmoid,
        unitless=("hill",),
    ),
    "exponential": Model(("e0", "e1"), ("delta",), ((0.1, 4.0),), _exponential),
}


@sealed
@dataclass(frozen=True)
class DoseResponseFit:
    """Curves of every model, their weights, and draws of the means refitted for the intervals.

    dose, mean (k,), vcov (k, k) : what was fitted; curves, weights : by model; draws : refits of simulated means
    """

    dose: FloatArray
    mean: FloatArray
    vcov: FloatArray
    curves: tuple[Curve, ...]
    weights: FloatArray
    draws: tuple[tuple[Curve, ...], ...]
    level: float
    warnings: tuple[str, ...] = ()

    def models(self) -> Estimates:
        """One row per model: residual form, AIC, weight."""
        rows = [(c.name, c.rss, c.aic, w) for c, w in zip(self.curves, self.weights, strict=True)]
        frame = pd.DataFrame(rows, columns=["model", "rss", "aic", "weight"])
        return Estimates(frame, meta(method="generalised least squares on LS means", level=None, title="Models"))

    def coefficients(self) -> Estimates:
        """Parameters of every model; errors and limits from the refitted draws."""
        rows = []
        for i, curve in enumerate(self.curves):
            for name, value in curve.parameters.items():
                drawn = np.array([d[i].parameters[name] for d in self.draws])
                stuck = np.ptp(drawn) == 0  # every draw at the edge of the search range: no error can be told
                spread = (np.nan,) * 3 if stuck else (drawn.std(ddof=1), *self._limits(drawn))
                rows.append((curve.name, name, value, *spread))
        columns = ["model", "term", "estimate", "std_error", "conf_low", "conf_high"]
        note = f"Limits: percentiles of {len(self.draws)} refits to draws of the means; NE: at the edge of its range."
        return Estimates(pd.DataFrame(rows, columns=columns), self._meta("Dose-response parameters", note))

    def predict(self, dose: Sequence[float] | FloatArray, model: str = "average") -> Estimates:
        """Mean response at `dose`, of one model or averaged over the models by their weights."""
        point = self._curve(self.curves, model)(dose)
        drawn = np.array([self._curve(d, model)(dose) for d in self.draws])
        low, high = self._limits(drawn)
        frame = pd.DataFrame(
            {
                "dose": np.asarray(dose, dtype=float),
                "estimate": point,
                "std_error": drawn.std(axis=0, ddof=1),
                "conf_low": low,
                "conf_high": high,
            }
        )
        return Estimates(frame, self._meta(f"Dose response, {model}", f"{len(self.draws)} refits."))

    def target_dose(self, difference: float, model: str = "average") -> Estimates:
        """The smallest dose, up to the largest studied, whose mean differs from dose zero by `difference`.

        Draws that never reach it count as beyond the largest dose, so that a limit may be infinite; when the fitted
        curve never reaches it the estimate is NaN.
        """
        grid = np.linspace(0, self.dose.max(), 2001)
        point = _first_dose(grid, self._curve(self.curves, model)(grid), difference)
        drawn = np.array([_first_dose(grid, self._curve(d, model)(grid), difference) for d in self.draws])
        low, high = self._limits(np.where(np.isnan(drawn), np.inf, drawn))
        row = {"difference": [difference], "estimate": [point], "conf_low": [low], "conf_high": [high]}
        missed = f"{np.isnan(drawn).mean():.0%} of draws do not reach it within the doses studied."
        return Estimates(pd.DataFrame(row), self._meta(f"Target dose, {model}", missed))

    def plot(self, ax: Any = None, *, points: int = 101, **options: Any) -> Any:
        """The averaged curve with its band, the curve of every model, and the means with their intervals."""
        from kapstats.report.figures.dose_response import dose_response as draw

        at = np.linspace(0, self.dose.max(), points)
        each = {c.name: c(at) for c in self.curves}
        return draw(self.predict(at).frame, each, self.dose, self.mean, self.vcov, level=self.level, ax=ax, **options)

    def _curve(self, curves: tuple[Curve, ...], model: str) -> Callable[[Any], FloatArray]:
        names = [c.name for c in curves]
        choose(model, ["average", *names], "model")
        if model != "average":
            return curves[names.index(model)]
        weights = akaike_weights(np.array([c.aic for c in curves]))
        return lambda dose: sum((w * c(dose) for w, c in zip(weights, curves, strict=True)), np.zeros(np.size(dose)))

    def _limits(self, drawn: FloatArray) -> tuple[Any, Any]:
        tail = (1 - self.level) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0, method="inverted_cdf")
        return low, high

    def _meta(self, title: str, sentence: str) -> dict[str, Any]:
        return meta(
            method="dose response on LS means", level=self.level, title=title, sentence=sentence, warnings=self.warnings
        )


def dose_response(
    means: Estimates | pd.DataFrame,
    dose: str | Mapping[Any, float] | Sequence[float],
    *,
    vcov: FloatArray | None = None,
    models: Sequence[str] = ("linear", "emax", "sigmoid-emax", "exponential", "quadratic"),
    draws: int = 500,
    seed: int = 1,
    level: float = 0.95,
) -> DoseResponseFit:
    """Fit dose-response curves to LS means by generalised least squares with their covariance.

    For each model the means m with covariance V are fitted by minimising (m - f)'V^-1 (m - f): the linear parameters
    in closed form, the others by a bounded search. Models are averaged with weights exp(-AIC / 2).

    Parameters
    ----------
    means : LS means, one row per dose (``fit.lsmeans("TRT01P", by="AVISIT").filter(AVISIT="Day 28")``)
    dose : the dose of each row: a column, a mapping from the levels of the first column, or numbers
    vcov : (k, k) covariance of the means; default that of `means`, else the diagonal of its standard errors
    draws : refits to draws of the means, for the intervals

    Raises
    ------
    DataError
        When there are fewer distinct doses than parameters of a model (leave that model out).
    FormulaError, EstimabilityError
        When doses, options or the covariance cannot be used, with the remedy.

    References
    ----------
    Bretz, Pinheiro & Branson (2005), Biometrics 61, 738. Pinheiro et al. (2014), doi 10.1002/sim.6052.

    Examples
    --------
    >>> table = pd.DataFrame({"estimate": [0.0, -4.0, -6.0, -7.2], "std_error": [0.5] * 4})
    >>> fit = dose_response(table, [0, 28, 56, 84], models=["linear", "emax"], draws=50)
    >>> fit.models()["model"].tolist(), bool(fit.weights[1] > fit.weights[0])
    (['linear', 'emax'], True)
    """
    check_level(level)
    if draws < 2:
        raise FormulaError(f"dose_response: draws={draws} gives no limits; ask for hundreds.")
    x, y, cov = _means(means, dose, vcov, "dose_response")
    models = [models] if isinstance(models, str) else list(models)
    if not models:
        raise FormulaError(f"dose_response: give at least one model of {', '.join(MODELS)}.")
    for name in models:
        needed = len(MODELS[choose(name, MODELS, "models")].linear) + len(MODELS[name].nonlinear)
        if len(np.unique(x)) < needed:
            raise DataError(f"{name}: needs {needed} distinct doses, there are {len(np.unique(x))}. Leave it out.")
    chosen = {name: MODELS[name] for name in models}
    curves = fit_curves(chosen, x, y, cov)
    weights = akaike_weights(np.array([c.aic for c in curves]))
    drawn = refits(chosen, x, y, cov, draws, seed)
    return DoseResponseFit(x, y, cov, curves, weights, drawn, level, warn_edges(curves, x, "dose"))


def _means(means: Any, dose: Any, vcov: FloatArray | None, what: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Doses (k,), means (k,) and their covariance (k, k)."""
    frame = means.frame if isinstance(means, Estimates) else frames.to_pandas(means)
    frames.require(frame, ["estimate"], "means")
    x, y = _doses(frame, dose), frames.numbers(frame, "estimate", "means")
    if not len(y):
        raise DataError("means: no rows.")
    cov = _covariance(means, frame, vcov)
    if cov.shape != (len(y), len(y)):
        raise FormulaError(f"vcov: {cov.shape} for {len(y)} means.")
    if not (np.isfinite(y).all() and np.isfinite(cov).all()):
        raise EstimabilityError(f"{what}: a mean or its covariance is not a number; leave out that dose.")
    if not np.allclose(cov, cov.T, rtol=1e-6, atol=1e-12 * np.abs(cov).max()):
        raise FormulaError("vcov: not symmetric, so it is no covariance.")
    if not (np.linalg.eigvalsh(cov) > 0).all():
        raise EstimabilityError(f"{what}: the covariance of the means is not positive definite.")
    return x, y, cov


def _doses(frame: pd.DataFrame, dose: str | Mapping[Any, float] | Sequence[float]) -> FloatArray:
    if isinstance(dose, str):
        frames.require(frame, [dose], "means")
        values = frame[dose]
    elif isinstance(dose, Mapping):
        values = frame.iloc[:, 0].astype("object").map(dict(dose))
    else:
        values = pd.Series(list(dose))
    if len(values) != len(frame):
        raise FormulaError(f"dose: {len(frame)} means need {len(frame)} doses; {len(values)} are given.")
    number = pd.to_numeric(values, errors="coerce")
    if number.isna().any():
        raise FormulaError(
            f"dose: {int(number.isna().sum())} of {len(frame)} means have no number for a dose "
            f"({first_ids(np.flatnonzero(number.isna()))} counted from 0). Give a number for every mean."
        )
    found = number.to_numpy(dtype=float)
    if (found < 0).any():
        raise DataError("dose: negative doses cannot be fitted.")
    return found


def _covariance(means: Any, frame: pd.DataFrame, vcov: FloatArray | None) -> FloatArray:
    if vcov is not None:
        return np.asarray(vcov, dtype=float)
    if isinstance(means, Estimates) and means.vcov is not None:
        return means.vcov
    frames.require(frame, ["std_error"], "means")
    return np.diag(frames.numbers(frame, "std_error", "means") ** 2)


def _first_dose(grid: FloatArray, mean: FloatArray, difference: float) -> float:
    """Smallest grid dose (interpolated) at which mean - mean[0] passes `difference`; NaN when it never does."""
    gain = (mean - mean[0]) * np.sign(difference)
    hit = np.flatnonzero(gain >= abs(difference))
    if not len(hit):
        return float("nan")
    i = int(hit[0])
    if i == 0:
        return float(grid[0])
    share = (abs(difference) - gain[i - 1]) / (gain[i] - gain[i - 1])
    return float(grid[i - 1] + share * (grid[i] - grid[i - 1]))


def mcp_mod(
    means: Estimates | pd.DataFrame,
    dose: str | Mapping[Any, float] | Sequence[float],
    candidates: Mapping[str, tuple[str, Mapping[str, float]]],
    *,
    vcov: FloatArray | None = None,
    df: float = np.inf,
    side: str = "two",
    level: float = 0.95,
) -> Estimates:
    """Test for any dose response by the largest of several contrasts, one for each candidate shape (the MCP step).

    The contrast of a shape f is optimal for it: S^-1 (f - (1'S^-1 f) / (1'S^-1 1)), of unit length. The p values are
    those of the largest of the correlated statistics, so that the family-wise error over all shapes is held.

    Parameters
    ----------
    means, dose, vcov : as in `dose_response`
    candidates : name to (model, values of its nonlinear parameters): ``{"steep": ("emax", {"ed50": 10.0})}``; a
        quadratic takes ``{"ratio": b2 / b1}``
    df : degrees of freedom of the means (infinite: normal)
    side : "two", or the direction in which a response counts: "less" or "greater"

    Returns
    -------
    Estimates with one row per candidate: ``candidate model``, the contrast's estimate, error and statistic, and its
    adjusted ``p_value``; the weights are in ``meta["weights"]``, the correlation in ``meta["correlation"]``. Fit the
    models whose shape is significant with `dose_response` (the Mod step).

    Agrees with
    -----------
    R 4.2.2 with mvtnorm 1.1-3: optimal contrasts to 1e-10, adjusted p values to 1e-5 (Monte Carlo of 6e7 draws).

    References
    ----------
    Bretz, Pinheiro & Branson (2005), Biometrics 61, 738. Pinheiro et al. (2014), doi 10.1002/sim.6052.

    Examples
    --------
    >>> table = pd.DataFrame({"estimate": [0.0, -4.0, -6.0, -7.2], "std_error": [0.5] * 4})
    >>> shapes = {"linear": ("linear", {}), "steep": ("emax", {"ed50": 15.0})}
    >>> bool((mcp_mod(table, [0, 28, 56, 84], shapes)["p_value"] < 0.001).all())
    True
    """
    x, y, cov = _means(means, dose, vcov, "mcp_mod")
    if not candidates or len(np.unique(x)) < 2:
        raise FormulaError("mcp_mod: give at least one candidate shape and two distinct doses.")
    shapes = np.array([_shape(name, *given, x) for name, given in candidates.items()])
    omega = np.linalg.inv(cov)
    ones = np.ones(len(x))
    weights = (shapes - (shapes @ omega @ ones / (ones @ omega @ ones))[:, None]) @ omega
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    spread = weights @ cov @ weights.T
    error = np.sqrt(np.diag(spread))
    correlation = spread / np.outer(error, error)
    statistic = weights @ y / error
    ids = pd.DataFrame({"candidate": list(candidates), "model": [m for m, _ in candidates.values()]})
    table = with_inference(ids, weights @ y, error, df, level=level, side=side)
    table["p_value"] = mvt_p_values(statistic, correlation, df, side)
    table = table.drop(columns=["conf_low", "conf_high"])
    best = str(table["candidate"].iloc[int(np.argmin(table["p_value"]))])
    said = f"{len(x)} doses; smallest p value: {best}."
    more = {"weights": weights, "correlation": correlation, "title": "Contrasts for candidate shapes"}
    return Estimates(table, meta(method="multiple contrast test", level=level, side=side, adjustment="single-step",
                                 sentence=said, **more))  # fmt: skip


def _shape(name: str, model: str, parameters: Mapping[str, float], x: FloatArray) -> FloatArray:
    """The standardised mean (up to location and scale) of a candidate at the doses."""
    chosen = MODELS[choose(model, MODELS, f"model of candidate {name!r}")]
    wanted = ("ratio",) if model == "quadratic" else chosen.nonlinear
    if set(parameters) != set(wanted):
        raise FormulaError(f"candidate {name!r}: {model} takes {', '.join(wanted) or 'no parameters'}.")
    if model == "quadratic":
        return x + float(parameters["ratio"]) * x**2
    theta = np.array([[float(parameters[n]) for n in chosen.nonlinear]])
    if not (theta > 0).all():
        raise FormulaError(f"candidate {name!r}: {', '.join(chosen.nonlinear)} have to be above zero.")
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.asarray(chosen.shape(x, theta)[0, :, 0] * np.ones(len(x)))
    if not np.isfinite(found).all() or np.ptp(found) == 0:
        raise FormulaError(f"candidate {name!r}: {model} is flat or infinite at these doses; change its parameters.")
    return found
