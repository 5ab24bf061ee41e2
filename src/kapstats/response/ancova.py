"""Analysis of covariance at one visit: y = X b + e with independent rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg

from kapstats import estimates, frames
from kapstats._types import FloatArray, FrameLike
from kapstats.data import contract
from kapstats.errors import DataError, FormulaError, choose, first_ids, warn
from kapstats.estimates import Estimates
from kapstats.formula.design import Design, build
from kapstats.formula.expressions import columns_in, complete_rows, evaluate, offsets
from kapstats.formula.grid import warn_without_data
from kapstats.formula.split import Formula, parse
from kapstats.inference import contrasts
from kapstats.inference.contrasts import Joint, Linear, LSMeans
from kapstats.inference.intervals import wald
from kapstats.response import anova as term_tests
from kapstats.response import nonparametric, wald_answers
from kapstats.response.repeated import _checked_weights, _fixed_columns, _with_weights

VCOV = ("model", "HC0", "HC1", "HC2", "HC3")
ONE = 1 - 1e-10  # leverage from which a row is fitted exactly


@dataclass(frozen=True)
class AncovaFit:
    """A fitted analysis of covariance, made by `ancova`.

    used : the complete rows; rows : their positions in the caller's table; y : response minus offset, weights (N,);
    root (p, p): (X'WX)^-1 = CC'
    """

    formula: Formula
    design: Design
    used: pd.DataFrame
    rows: FloatArray
    y: FloatArray
    weights: FloatArray
    beta: FloatArray
    root: FloatArray
    default_vcov: str
    notes: tuple[str, ...]
    pooled: dict[Any, str]
    n_records: int
    missing: dict[str, int]
    frame_kind: str
    warnings: tuple[str, ...]

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.y)

    @property
    def n_subjects(self) -> int:
        """Rows used: one per subject."""
        return self.nobs

    @property
    def converged(self) -> bool:
        """Least squares has a closed form."""
        return True

    @property
    def df_residual(self) -> float:
        """Rows minus estimated coefficients."""
        return float(self.nobs - len(self.beta))

    @property
    def _X(self) -> FloatArray:
        return self.design.X[:, ~self.design.aliased]

    @cached_property
    def _residual(self) -> FloatArray:
        return self.y - self._X @ self.beta

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return float(np.sqrt(self.weights @ self._residual**2 / self.df_residual))

    @property
    def loglik(self) -> float:
        """Gaussian log-likelihood at the maximum likelihood variance (as R lm)."""
        rss = float(self.weights @ self._residual**2)
        return 0.5 * (float(np.log(self.weights).sum()) - self.nobs * (np.log(2 * np.pi * rss / self.nobs) + 1))

    @property
    def aic(self) -> float:
        """-2 l + 2 (p + 1)."""
        return -2 * self.loglik + 2 * (len(self.beta) + 1)

    @property
    def bic(self) -> float:
        """-2 l + (p + 1) log N."""
        return -2 * self.loglik + (len(self.beta) + 1) * float(np.log(self.nobs))

    @cached_property
    def _covariances(self) -> dict[str, FloatArray]:
        bread = self.root @ self.root.T
        X, w = self._X * np.sqrt(self.weights)[:, None], self._residual * np.sqrt(self.weights)
        leverage = ((X @ self.root) ** 2).sum(1)
        free = np.where(leverage < ONE, 1 - leverage, np.nan)  # a row that is fitted exactly tells nothing of its error
        scale = {"HC0": w**2, "HC2": w**2 / free, "HC3": w**2 / free**2}
        scale["HC1"] = scale["HC0"] * self.nobs / self.df_residual
        meat = {k: bread @ (X.T * s) @ X @ bread for k, s in scale.items()}
        return {"model": self.sigma**2 * bread, **meat}

    def linear(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None, check: bool = True) -> Linear:
        """Estimates of L b with covariance and residual df; NaN where not estimable (check=False: aliased are zero)."""
        choose("residual" if df is None else df, ("residual", "normal"), "df")
        V = self._covariances[choose(self.default_vcov if vcov is None else vcov, VCOV, "vcov")]
        degrees = np.inf if df == "normal" else self.df_residual
        return wald_answers.linear(self.design, self.beta, V, degrees, L, check=check)

    def joint(self, L: FloatArray, *, df: str | None = None, vcov: str | None = None) -> Joint:
        """F test of L b = 0 over its estimable, independent rows."""
        return wald_answers.joint(self, self.design, L, df, vcov)

    @property
    def coefficients(self) -> Estimates:
        """Coefficients with the fit's default covariance; aliased ones are NaN."""
        return self.coefficients_by()

    def coefficients_by(self, *, vcov: str | None = None, level: float = 0.95, side: str = "two") -> Estimates:
        """Coefficients with any covariance."""
        found = self.linear(np.eye(len(self.design.names)), vcov=vcov, check=False)
        described = self._meta(vcov, title="Coefficients", level=level, side=side)
        return wald_answers.coefficient_table(self.design, found, described, level=level, side=side)

    @property
    def vcov(self) -> FloatArray:
        """Covariance of the coefficients by the fit's default method."""
        found = self.coefficients.vcov
        assert found is not None
        return found

    @property
    def _offsets(self) -> FloatArray | None:
        return offsets(self.formula.offset, self.used) if self.formula.offset else None

    def lsmeans(
        self,
        specs: str | Sequence[str],
        *,
        by: str | Sequence[str] | None = None,
        weights: str = "equal",
        at: Mapping[str, Any] | None = None,
        df: str | None = None,
        vcov: str | None = None,
        level: float = 0.95,
        side: str = "two",
        offset: float | None = None,
    ) -> LSMeans:
        """Least-squares means over the reference grid; see `MmrmFit.lsmeans`. weights="observed" standardises."""
        return contrasts.lsmeans(
            self, self.design, self.used, specs, by=by, weights=weights, at=at, df=df, vcov=vcov, level=level,
            side=side, offsets=self._offsets, offset=offset, describe=self._meta(vcov),
        )  # fmt: skip

    def anova(self, *, type: int = 3, df: str | None = None, vcov: str | None = None) -> Estimates:
        """F tests by model term, types II and III: `term num_df df statistic p_value`."""
        return term_tests.anova(
            self, self.design, self.used, type=type, df=df, vcov=vcov, root=linalg.inv(self.root),
            describe=self._meta(vcov),
        )  # fmt: skip

    def predict(
        self, newdata: FrameLike | None = None, *, interval: str | None = None, level: float = 0.95
    ) -> Estimates:
        """Predicted means for the rows of `newdata`, offset included; interval None, "confidence" or "prediction"."""
        if interval is not None:
            choose(interval, ("confidence", "prediction"), "interval")
        frame = self.used if newdata is None else frames.to_pandas(newdata)
        kept = complete_rows(frame, [*self.design.spec.columns, *self.formula.offset])[0]
        rows = frame.iloc[kept].reset_index(drop=True)
        found = self.linear(self.design.spec.matrix(rows))
        said = warn_without_data(self.design, rows.loc[np.isnan(found.estimate)], "predictions")
        estimate = found.estimate + offsets(self.formula.offset, rows)
        variance = np.diag(found.vcov) + (self.sigma**2 if interval == "prediction" else 0.0)
        columns = {"estimate": estimate, "std_error": np.sqrt(variance)}
        if interval is not None:
            limits = wald(estimate, np.sqrt(variance), found.df, level=level)
            columns |= {"df": found.df, "conf_low": limits["conf_low"], "conf_high": limits["conf_high"]}
        full = pd.DataFrame(np.nan, index=range(len(frame)), columns=list(columns))
        full.iloc[kept] = pd.DataFrame(columns).to_numpy()
        meta = self._meta(title="Predictions", level=level, interval=interval)
        return Estimates(full, {**meta, "warnings": (*meta["warnings"], *said)})

    def residuals(self, kind: str = "response") -> pd.Series:
        """Residuals of the rows used: "response" or "pearson" (over the residual standard deviation)."""
        choose(kind, ("response", "pearson"), "kind")
        value = self._residual if kind == "response" else self._residual * np.sqrt(self.weights) / self.sigma
        return pd.Series(value, index=self.rows, name=kind)

    def rank_test(self, arm: str) -> Estimates:
        """Rank analysis of covariance (Quade 1967): ranks of the response regressed on ranks of the covariates.

        The residuals are compared between the levels of `arm` by a one-way F test. Factors other than `arm` are strata,
        within which ranks are taken. Returns `term num_df df statistic p_value`.
        """
        return nonparametric.rank_test(self, arm)

    def hodges_lehmann(self, arm: str, *, ref: Any = None, adjusted: bool = False, level: float = 0.95) -> Estimates:
        """Hodges-Lehmann shift of each arm over the control with Moses' interval and the Wilcoxon p value.

        adjusted : use residuals of the model without the arm instead of the response
        """
        return nonparametric.hodges_lehmann(self, arm, ref, adjusted, level)

    @property
    def sentence(self) -> str:
        """The model sentence."""
        lost = "".join(f"; {n} missing {c}" for c, n in self.missing.items())
        kind = "" if self.default_vcov == "model" else f", robust {self.default_vcov}"
        notes = "".join(f"; {note}" for note in self.notes)
        return f"ANCOVA{kind}; {self.nobs} of {self.n_records} records{lost}{notes}"

    def _meta(self, vcov: str | None = None, **more: Any) -> dict[str, Any]:
        chosen = self.default_vcov if vcov is None else vcov
        described = estimates.meta(
            method="analysis of covariance", sentence=self.sentence, warnings=self.warnings, data=self._fingerprint,
            **{"estimand": frames.estimand(self.used), "level": 0.95, **more},
        )  # fmt: skip
        return {**described, "vcov": chosen, "df": "residual", "frame_kind": self.frame_kind}

    @cached_property
    def _fingerprint(self) -> str:
        return frames.fingerprint(self.used, frames.named(self.used, self.formula.text))

    def summary(self) -> Estimates:
        """Coefficients with the facts of the fit as notes."""
        table = self.coefficients
        fact = f"Residual SD {self.sigma:.4g} on {self.df_residual:g} df; AIC {self.aic:.4f}."
        described = {**table.meta, "conventions": (*table.meta["conventions"], fact), "title": self.formula.text}
        return Estimates(table.frame, described, table.vcov)

    def explain(self) -> str:
        """The methods paragraph."""
        squares = "least squares" if (self.weights == 1).all() else "weighted least squares"
        text = (
            f"{self.formula.response} was analysed by analysis of covariance, {self.formula.text}, by {squares} "
            f"on {self.nobs} of {self.n_records} records. "
        )
        if self.default_vcov != "model":
            text += f"Standard errors are robust to unequal variances ({self.default_vcov}; Long & Ervin 2000, "
            text += "doi:10.1080/00031305.2000.10474549). "
        for note in self.notes:
            text += f"{note[0].upper()}{note[1:]}. "
        text += "Rows with a missing response are left out, which is valid when they are missing at random given the "
        return text + "covariates."

    def plot(self, ax: Any = None, *, kind: str = "residuals") -> Any:
        """Residuals against fitted values."""
        import matplotlib.pyplot as plt

        choose(kind, ("residuals",), "kind")
        if ax is None:
            _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
        fitted = self.y - self._residual + offsets(self.formula.offset, self.used)
        ax.scatter(fitted, self.residuals("pearson"), s=8, alpha=0.5, color="0.35", linewidths=0)
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(xlabel=f"Fitted {self.formula.response}", ylabel="Pearson residual")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __str__(self) -> str:
        return self.summary().to_text()

    def __repr__(self) -> str:
        return f"<AncovaFit: {self.sentence}>"

    def _repr_html_(self) -> str:
        return self.summary().to_html()


def ancova(
    formula: str,
    data: FrameLike,
    *,
    vcov: str = "model",
    weights: Any = None,
    visit: str | None = None,
    at: Any = None,
    subject: str | None = None,
    locf: bool = False,
    pool: str | None = None,
    pool_by: str | None = None,
    minimum: int = 2,
    order: Mapping[str, Sequence[Any]] | None = None,
) -> AncovaFit:
    """Analysis of covariance by least squares.

    Estimates b in y = X b + e, e independent with variance s2 / w: adjusted differences of means at one visit.

    Parameters
    ----------
    formula : str
        ``"CHG ~ BASE + SITEID + TRT01P"``.
    data : table or path
        One row per subject, or per subject and visit with `visit` and `at`.
    vcov : str
        "model" (default) or HC0, HC1, HC2, HC3: robust to unequal variances (HC2 and HC3 for small samples).
    weights : column name or (rows,), optional
        Residual variance is divided by them.
    visit, at : str and value, optional
        Take the rows where column `visit` equals `at`.
    subject, locf : str and bool
        With locf=True a subject without a response at the visit brings its last one before it, in the order of the
        column or of `order`. Never done unasked; a warning says why it is a poor choice.
    pool, pool_by, minimum : str, str and int
        Pool the centres of column `pool` that have fewer than `minimum` rows in some level of `pool_by` (the arm); the
        pooled centre takes in the next smallest until it has enough.
    order : mapping, optional
        Level order of factor columns.

    Returns
    -------
    AncovaFit

    Raises
    ------
    FormulaError, DataError
        What cannot be read or analysed, with the remedy.

    Agrees with
    -----------
    R 4.2.2 `lm` with emmeans 1.8.4-1 and sandwich's HC0 to HC3, 1e-10.

    References
    ----------
    Quade D (1967). Rank analysis of covariance. Journal of the American Statistical Association 62, 1187-1200.
    doi:10.1080/01621459.1967.10500925

    Examples
    --------
    >>> import pandas as pd
    >>> data = pd.DataFrame({"TRT": ["P", "P", "P", "K", "K", "K"], "BASE": [30, 34, 32, 31, 33, 35]})
    >>> fit = ancova("CHG ~ BASE + TRT", data.assign(CHG=[-4, -9, -6, -12, -13, -16]), order={"TRT": ["P", "K"]})
    >>> fit.lsmeans("TRT").contrast()["estimate"].round(3).tolist()
    [-6.208]
    """
    choose(vcov, VCOV, "vcov")
    parsed = _check_formula(formula)
    frame = frames.to_pandas(data)
    frames.tell_unused(order, frame)
    frame, weight_column = _with_weights(frame, weights)
    frame, notes, said = _at_visit(frame, str(parsed.response), visit, at, subject, locf, (order or {}).get(str(visit)))
    n_records = len(frame)
    columns = [str(parsed.response), *_fixed_columns(parsed, frame), *parsed.offset]
    columns += [c for c in (weight_column, pool, pool_by) if c is not None]
    kept, missing = complete_rows(frame, columns)
    if not len(kept):
        raise DataError(f"{formula}: no row is complete in {', '.join(columns)}. There is nothing to fit.")
    used, positions = frame.iloc[kept].reset_index(drop=True), frame.index.to_numpy()[kept]
    said = [*said, *contract.one_row_each(used, "name one visit (visit=, at=), or use ks.mmrm", subject=subject)]
    pooled: dict[Any, str] = {}
    if pool is not None:
        used, pooled = pool_centres(used, pool, pool_by, minimum)
        notes += [f"{len(pooled)} centres of {pool} pooled"] if pooled else []
    return _least_squares(
        parsed, used, positions, weight_column, vcov, notes, pooled, n_records, missing, frames.kind(data), order, said
    )


def _check_formula(text: str) -> Formula:
    parsed = parse(text)
    if not isinstance(parsed.response, str):
        raise FormulaError(f"Formula {text!r}: an analysis of covariance needs a numeric response before the ~.")
    if parsed.random or parsed.covariance:
        raise FormulaError(f"Formula {text!r}: for random effects use ks.lmm, for a covariance over visits ks.mmrm.")
    for name in ("strata", "cluster", "frailty"):
        if getattr(parsed, name):
            raise FormulaError(f"Formula {text!r}: {name}() is not part of an analysis of covariance; write a factor.")
    return parsed


def _at_visit(
    frame: pd.DataFrame, response: str, visit: str | None, at: Any, subject: str | None, locf: bool,
    order: Sequence[Any] | None,
) -> tuple[pd.DataFrame, list[str], list[str]]:  # fmt: skip
    """The rows of one visit, with their index, with the last observation carried forward where asked."""
    if visit is None:
        if locf or at is not None:
            raise FormulaError("ancova: at= and locf=True need visit=, the column of visits.")
        return frame, [], []
    frames.require(frame, [visit, *([subject] if subject else [])])
    if not (frame[visit] == at).any():
        known = first_ids(frame[visit].dropna().unique().tolist())
        raise DataError(f"{visit}: no row has {at!r}. Its values: {known}.")
    if not locf:
        return frame[frame[visit] == at], [f"{visit} {at}"], []
    if subject is None:
        raise FormulaError("ancova: locf=True needs subject=, the column of subject ids.")
    text = (
        "Last observation carried forward was asked for: it takes a dropout's state as lasting and understates "
        "uncertainty; it is not valid under missing at random. Use ks.mmrm or ks.impute for the primary analysis."
    )
    warn(text)
    carried = _carried(frame, response, visit, at, subject, order)
    return carried, [f"{visit} {at}, last observation carried forward"], [text]


def _carried(
    frame: pd.DataFrame, response: str, visit: str, at: Any, subject: str, order: Sequence[Any] | None
) -> pd.DataFrame:
    """One row per subject: the last row with a response at or before the visit (or, failing that, the visit's row)."""
    found = frames.levels(frame, visit, order)
    if found.source == "sorted" and len(found.values) > 1:
        raise DataError(
            f"{visit}: the order of {first_ids(found.values)} is not stated, so no observation is the last one. Use an "
            f"ordered categorical, a companion column {visit}N, or order={{{visit!r}: [...]}}."
        )
    place = found.values.index(at)
    seen = frame[list(columns_in(response, map(str, frame.columns)))].notna().all(axis=1)
    before = frame.assign(_visit=found.codes, _seen=seen)[(found.codes >= 0) & (found.codes <= place)]
    before = before.sort_values(["_seen", "_visit"], kind="stable")
    last = before.groupby(subject, sort=False, observed=True).tail(1)
    return last.sort_index().drop(columns=["_visit", "_seen"])


def pool_centres(used: pd.DataFrame, centre: str, arm: str | None, minimum: int) -> tuple[pd.DataFrame, dict[Any, str]]:
    """Rows with small centres replaced by one pooled centre, and which centres went into it.

    A centre is small when some arm has fewer than `minimum` rows in it; the pooled centre takes in the next smallest
    ones until it is not small itself.
    """
    frames.require(used, [centre, *([arm] if arm else [])])
    label = used[centre].astype("object")
    group = used[arm].astype("object") if arm else pd.Series("all", index=used.index)
    table = pd.crosstab(label, group)
    small = [c for c in table.index if table.loc[c].min() < minimum]
    if not small:
        return used, {}
    for candidate in table.sum(axis=1).sort_values(kind="stable").index:
        if table.loc[small].sum().min() >= minimum:
            break
        small += [candidate] if candidate not in small else []
    name = "Pooled"
    return used.assign(**{centre: label.where(~label.isin(small), name)}), dict.fromkeys(small, name)


def _least_squares(
    parsed: Formula, used: pd.DataFrame, kept: Any, weight_column: str | None, vcov: str, notes: list[str],
    pooled: dict[Any, str], n_records: int, missing: dict[str, int], kind: str,
    order: Mapping[str, Sequence[Any]] | None, said: list[str],
) -> AncovaFit:  # fmt: skip
    design = build(parsed.fixed, used, order=order)
    y = evaluate(str(parsed.response), used) - offsets(parsed.offset, used)
    w = np.ones(len(y)) if weight_column is None else _checked_weights(used[weight_column])
    X = design.X[:, ~design.aliased]
    if len(y) <= X.shape[1]:
        raise DataError(f"{len(y)} complete rows for {X.shape[1]} coefficients: no row is left for the variance.")
    Q, R = linalg.qr(X * np.sqrt(w)[:, None], mode="economic")
    beta = linalg.solve_triangular(R, Q.T @ (y * np.sqrt(w)))
    texts = [*design.warnings, *said]
    if design.aliased.any():
        lost = [n for n, a in zip(design.names, design.aliased, strict=True) if a]
        texts.append(f"{len(lost)} columns of the design have no estimate: {first_ids(lost)}.")
        warn(texts[-1])
    root = linalg.solve_triangular(R, np.eye(len(beta)))
    _refuse_exact(parsed, X, y, w, beta)
    if vcov in ("HC2", "HC3"):
        texts += _say_exact_rows(X * np.sqrt(w)[:, None] @ root, vcov, kept)
    return AncovaFit(
        parsed, design, used, kept, y, w, beta, root, vcov, tuple(notes), pooled, n_records, missing, kind, tuple(texts)
    )


def _refuse_exact(parsed: Formula, X: FloatArray, y: FloatArray, w: FloatArray, beta: FloatArray) -> None:
    if w @ (y - X @ beta) ** 2 <= 1e-20 * max(float(w @ y**2), 1e-300):
        raise DataError(f"{parsed.response}: the model fits every row exactly; no variance is left.")


def _say_exact_rows(turned: FloatArray, vcov: str, kept: Any) -> list[str]:
    """HC2 and HC3 do not exist when a coefficient hangs on one row. turned (N, p): rows of sqrt(W) X C."""
    alone = np.flatnonzero((turned**2).sum(1) >= ONE)
    if not len(alone):
        return []
    text = (
        f"{vcov} does not exist: each of {len(alone)} rows (rows {first_ids(np.asarray(kept)[alone])}) alone "
        "determines a coefficient. Its standard errors are missing; use HC0 or HC1, or merge the level."
    )
    return [warn(text)]
