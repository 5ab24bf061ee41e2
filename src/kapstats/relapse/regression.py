"""What the regression models of this pillar share: covariates from a formula, coefficient tables, ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from kapstats._types import BoolArray, FloatArray
from kapstats.errors import DataError, EstimabilityError, FormulaError, warn
from kapstats.estimates import Estimates, Picture
from kapstats.formula.design import Design, build
from kapstats.inference.intervals import wald, with_inference
from kapstats.relapse import cox_diagnosis as diagnosis
from kapstats.relapse.surv_data import SurvData

INTERCEPT = "(Intercept)"
MERGE = "Merge levels or leave it out."
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Covariates:
    """Design columns without the intercept: X (n, p) of the estimable ones, all names, which are aliased, warnings."""

    X: FloatArray
    names: tuple[str, ...]
    aliased: BoolArray
    design: Design
    warnings: tuple[str, ...]

    def new(self, frame: pd.DataFrame) -> FloatArray:
        """The same columns for other rows."""
        return self.design.spec.matrix(frame)[:, self._columns][:, ~self.aliased]

    @property
    def _columns(self) -> list[int]:
        return [i for i, name in enumerate(self.design.names) if name != INTERCEPT]


def covariates(
    surv: SurvData, order: Mapping[str, Sequence[Any]] | None = None, *, fixed: str | None = None, empty: bool = False
) -> Covariates:
    """Covariate columns of the right-hand side; aliased columns are taken out with a warning that names them."""
    if surv.formula.random or surv.formula.covariance:
        raise FormulaError(f"{surv.formula.text!r}: random effects have no place in this model.")
    design = build(surv.formula.fixed if fixed is None else fixed, surv.frame, order=order)
    columns = [i for i, name in enumerate(design.names) if name != INTERCEPT]
    alone = single_levels(design)
    if not columns and not empty:
        raise FormulaError(f"{surv.formula.text!r}: {alone or 'name at least one covariate, such as TRT01P.'}")
    aliased = design.aliased[columns]
    names = tuple(design.names[i] for i in columns)
    notes = [*surv.warnings, *design.warnings, *([warn(alone)] if alone else [])]
    if aliased.any():
        lost = ", ".join(n for n, a in zip(names, aliased, strict=True) if a)
        notes.append(warn(f"Not estimable, because the columns before determine them: {lost}. Their rows are NaN."))
    X = design.X[:, columns][:, ~aliased]
    if not np.isfinite(X).all():
        raise DataError(f"{surv.formula.text!r}: {int((~np.isfinite(X)).any(1).sum())} rows have infinite covariates.")
    return Covariates(X, names, aliased, design, tuple(notes))


def limit_notes(cov: Covariates, coef: FloatArray, usable: BoolArray, event: BoolArray) -> list[str]:
    """What to say of estimable columns whose coefficients (p,) have no information or no finite maximum."""
    names = [n for n, gone in zip(cov.names, cov.aliased, strict=True) if not gone]
    return [*diagnosis.aliased(names, ~usable), *diagnosis.monotone(names, cov.X, event, coef, usable, MERGE)]


def used_coefficients(cov: Covariates, coef: FloatArray, usable: BoolArray, what: str) -> FloatArray:
    """Coefficients (p,) to predict with, 0 for columns without information; infinite ones are refused."""
    names = [n for n, gone in zip(cov.names, cov.aliased, strict=True) if not gone]
    lost = [n for n, b, used in zip(names, coef, usable, strict=True) if used and not np.isfinite(b)]
    if lost:
        raise EstimabilityError(f"{what}: {', '.join(lost)} has no finite estimate. Merge levels, or refit without it.")
    return np.where(usable, coef, 0.0)


def single_levels(design: Design) -> str:
    """Which factors of the formula hold one level only in the rows used, and so no coefficient; empty text if none."""
    alone = [f"{name} (only {str(f.values[0])!r})" for name, f in design.factors.items() if len(f.values) == 1]
    return f"No coefficient for {', '.join(alone)}: a factor with one level compares nothing." if alone else ""


def refuse_terms(surv: SurvData, what: str, *, allow: Sequence[str] = ()) -> None:
    """A FormulaError for special terms that the analysis `what` would otherwise leave out silently."""
    parsed = surv.formula
    given = {"strata": parsed.strata, "cluster": parsed.cluster, "frailty": parsed.frailty, "offset": parsed.offset}
    extra = [name for name, value in given.items() if value and name not in allow]
    if extra:
        known = f" It takes {', '.join(f'{a}()' for a in allow)}." if allow else ""
        raise FormulaError(f"{parsed.text!r}: {', '.join(f'{e}()' for e in extra)} is not part of {what}.{known}")


def shown_as(name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: text and HTML of an object are those of the table that its attribute or method `name` gives."""

    def table(fit: Any) -> Estimates:
        found = getattr(fit, name)
        return found() if callable(found) else found

    def decorate(cls: type[T]) -> type[T]:
        cls.__str__ = cls.__repr__ = lambda self: table(self).to_text()  # type: ignore[method-assign]
        cls._repr_html_ = lambda self: table(self).to_html()  # type: ignore[attr-defined]
        return cls

    return decorate


def spread(values: FloatArray, aliased: BoolArray) -> FloatArray:
    """A vector or matrix of the estimable coefficients with NaN for the aliased ones."""
    keep = np.flatnonzero(~aliased)
    out = np.full((aliased.size,) * values.ndim, np.nan)
    out[np.ix_(*([keep] * values.ndim))] = values
    return out


def coefficient_table(
    names: Sequence[str], coef: FloatArray, vcov: FloatArray, meta: dict[str, Any], level: float, **measure: Any
) -> Estimates:
    """One row per coefficient with Wald inference; `measure` and `measures` as `kapstats.scales` reads them."""
    with np.errstate(invalid="ignore"):
        se = np.sqrt(np.diag(vcov))
    frame = with_inference(pd.DataFrame({"term": list(names)}), coef, se, level=level)
    return Estimates(frame, {**meta, "level": level, **measure}, vcov)


def natural(table: Estimates, title: str, *, sign: float = 1.0) -> Estimates:
    """exp(sign * estimate) with limits; std_error by the delta method; statistic and p are those of the log."""
    frame = table.frame
    low, high = ("conf_low", "conf_high") if sign > 0 else ("conf_high", "conf_low")
    estimate = np.exp(sign * frame["estimate"].to_numpy(float))
    changed = frame.assign(
        estimate=estimate,
        std_error=estimate * frame["std_error"].to_numpy(float),
        statistic=sign * frame["statistic"],
        conf_low=np.exp(sign * frame[low].to_numpy(float)),
        conf_high=np.exp(sign * frame[high].to_numpy(float)),
    )
    vcov = None if table.vcov is None else table.vcov * np.outer(estimate, estimate)
    return replace(table, frame=changed, meta={**table.meta, "scale": "natural", "title": title}, vcov=vcov)


def ratio_row(quantity: str, label: str, log_value: float, log_se: float, level: float) -> dict[str, Any]:
    """One row of a ratio: natural estimate and limits, statistic and p of the log."""
    inference = {k: float(v) for k, v in wald(log_value, log_se, level=level).items()}
    inference |= {k: float(np.exp(inference[k])) for k in ("conf_low", "conf_high")}
    value = float(np.exp(log_value))
    row = {"quantity": quantity, "contrast": label, "estimate": value, "std_error": value * float(log_se), "df": np.inf}
    return {**row, **inference}


def newdata_frame(newdata: Any, default: pd.DataFrame) -> pd.DataFrame:
    """`newdata` as pandas; a mapping is one row."""
    from kapstats import frames

    if newdata is None:
        return default
    if isinstance(newdata, Mapping):
        lengths = [len(v) for v in newdata.values() if isinstance(v, (list, tuple, np.ndarray))]
        return pd.DataFrame(dict(newdata), index=None if lengths else [0]).reset_index(drop=True)
    return frames.to_pandas(newdata)


def predictor_rows(covariates: Covariates, used: pd.DataFrame, newdata: Any) -> tuple[pd.DataFrame, FloatArray]:
    """Rows to predict for and their covariates: those of `newdata`, or one row at the covariates' means."""
    if newdata is None:
        return pd.DataFrame({"covariates": ["at their means"]}), covariates.X.mean(0, keepdims=True)
    rows = newdata_frame(newdata, used)
    return rows, covariates.new(rows)


def predicted(kind: str, rows: pd.DataFrame, **options: Any) -> Picture:
    """The figure of curves predicted for `rows`: one curve a row, named by the columns in which the rows differ."""
    return Picture(kind, {"strata": _differing(rows), **options})


def row_names(rows: pd.DataFrame) -> dict[str, str]:
    """What to call each row by its position: the values in which the rows differ."""
    names = rows[_differing(rows)].astype(str).agg(", ".join, axis=1)
    return dict(zip(map(str, range(len(rows))), names, strict=True))


def _differing(rows: pd.DataFrame) -> list[str]:
    """The columns in which the rows differ, the first column where they do not."""
    differ = [c for c in rows.columns if len(rows) > 1 and rows[c].astype(str).nunique() > 1]
    return differ or list(rows.columns[:1])


def identifying(new: pd.DataFrame, times: FloatArray) -> pd.DataFrame:
    """Every row of `new` crossed with every time, time varying fastest."""
    base = new.loc[new.index.repeat(len(times))].reset_index(drop=True)
    return base.assign(time=np.tile(times, len(new)))
