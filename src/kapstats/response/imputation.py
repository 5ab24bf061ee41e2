"""Multiple and conditional-mean imputation of repeated outcomes, under MAR and reference-based strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from kapstats import frames
from kapstats._types import FloatArray, FrameLike, IntArray
from kapstats.errors import ConvergenceError, FormulaError, choose, first_ids, nearest, warn
from kapstats.estimates import Estimates, meta
from kapstats.inference.intervals import with_inference
from kapstats.inference.pooling import Pooled, bootstrap_error, jackknife_error, resampled, rubin
from kapstats.kernels import reference_based
from kapstats.response.imputation_analysis import Analysis, Ancova, Custom
from kapstats.response.imputation_data import ImputationPlan, Wide, as_long, few_values, widen
from kapstats.response.imputation_delta import Delta, shift_of, template
from kapstats.response.imputation_model import (
    Model,
    bootstrap_counts,
    fit_model,
    impute_cells,
    leave_one_out,
    only,
    refit,
    refit_without,
    taken,
)

METHODS = ("conditional-mean", "bayes", "bootstrap")
ALIASES = {"JR": "J2R"}
CHUNK = 256  # replicates refitted and imputed at a time


@dataclass(frozen=True)
class Imputations:
    """Completed data sets, drawn or computed when they are asked for.

    ``values()`` lists the imputed cells, ``frame(i)`` is completed data set i, ``analyse(...)`` pools an analysis.
    """

    wide: Wide = field(repr=False)
    model: Model = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def plan(self) -> ImputationPlan:
        """The plan that was carried out."""
        return self.wide.plan

    def __len__(self) -> int:
        return len(self.model.beta)

    @cached_property
    def _cells(self) -> tuple[IntArray, IntArray]:
        i, s = np.nonzero(np.isnan(self.wide.y))
        return i, s

    @cached_property
    def _imputed(self) -> FloatArray:
        """(M, cells) imputed values in the order of `_cells`."""
        random = self.plan.method != "conditional-mean"
        rng = np.random.default_rng(np.random.SeedSequence(self.plan.seed, spawn_key=(1,))) if random else None
        return impute_cells(self.wide, self.model, rng)

    def values(self) -> Estimates:
        """The imputed cells: subject, visit, strategy, value (mean over the data sets when there are several)."""
        i, s = self._cells
        frame = pd.DataFrame(
            {
                self.wide.subject: self.wide.subjects[self.wide.subject].to_numpy()[i],
                self.wide.visit: [self.wide.visits[k] for k in s],
                "strategy": [self._strategy_of(a, b) for a, b in zip(i, s, strict=True)],
                "estimate": self._imputed.mean(axis=0),
            }
        )
        method, said = f"{self.plan.method} imputation", self._sentence()
        description = meta(method=method, level=None, title="Imputed values", sentence=said, data=self.wide.long)
        return Estimates(frame, description)

    def _strategy_of(self, subject: int, visit: int) -> str:
        return self.wide.strategy[subject] if visit >= self.wide.event[subject] else "MAR"

    def frame(self, i: int = 0) -> pd.DataFrame:
        """Completed data set `i`: one row per subject and planned visit; IMPUTED is True where a value was imputed."""
        return as_long(self.wide, self._completed(i), np.isnan(self.wide.y))

    def _completed(self, i: int) -> FloatArray:
        y = self.wide.y.copy()
        y[self._cells] = self._imputed[i]
        return y

    def analyse(
        self,
        analysis: Analysis | str | None = None,
        *,
        delta: Delta | None = None,
        variance: str | None = None,
        replicates: int = 500,
        level: float = 0.95,
        side: str = "two",
    ) -> Estimates:
        """Pool an analysis over the completed data sets.

        Parameters
        ----------
        analysis : None or a right-hand side of subject-level columns such as ``"TRT01P + BASE"``: ANCOVA of the
            outcome at every visit, with LS means by standardisation. Or a callable that takes a completed frame and
            returns an Estimates (or frame) with ``estimate`` and ``std_error``
        delta : amounts added to the imputed values: a number, or a mapping by arm, visit or reason (`plan.reason`), the
            one inside the other in any order (``{"KAP": {"Day 28": 4.0}}``, ``{"LACK OF EFFICACY": {"KAP": 5.0}}``);
            or a table of subject, visit and ``delta`` such as `delta_template` gives, applied as it stands
        variance : "rubin" (default of the random methods), "jackknife" (default of conditional-mean) or "bootstrap"
        replicates : bootstrap replicates

        Notes
        -----
        Rubin's variance of a reference-based analysis is information anchored: it does not shrink as more is missing
        (Cro, Carpenter & Kenward 2019). Jackknife and bootstrap give the frequentist variance of the same estimate,
        which is smaller under J2R and CR (Bartlett 2021, doi 10.1080/19466315.2021.1983455).
        """
        shift = shift_of(self.wide, delta)
        return self._pooled(analysis, [shift], variance, replicates, level, side)[0]

    def _pooled(
        self, analysis: Analysis | str | None, shifts: Sequence[FloatArray], variance: str | None, replicates: int,
        level: float, side: str,
    ) -> list[Estimates]:  # fmt: skip
        """One result per shift (n, m); resampled trials are refitted once for all of them."""
        usual = "jackknife" if self.plan.method == "conditional-mean" else "rubin"
        how = choose(variance or usual, ("rubin", "jackknife", "bootstrap"), "variance")
        if how == "rubin" and self.plan.method == "conditional-mean":
            raise FormulaError("variance='rubin' needs random draws; choose method='bayes' or 'bootstrap' in the plan.")
        run = Custom(analysis, self.wide) if callable(analysis) else Ancova.of(self.wide, analysis)
        points = [run.point(self._all() + shift) for shift in shifts]
        pooled = (
            [rubin(point, errors, df) for _, point, errors, df in points]
            if how == "rubin"
            else self._resampled(run, shifts, [point.mean(axis=0) for _, point, _, _ in points], how, replicates)
        )
        return [self._result(ids, one, how, level, side) for (ids, *_), one in zip(points, pooled, strict=True)]

    def _result(self, ids: pd.DataFrame, pooled: Pooled, how: str, level: float, side: str) -> Estimates:
        frame = with_inference(ids, pooled.estimate, pooled.std_error, pooled.df, level=level, side=side)
        description = meta(
            method=f"{self.plan.method} imputation, {how} variance",
            level=level,
            side=side,
            title="Analysis after imputation",
            sentence=self._sentence() + f" Variance: {how}. " + VARIANCE_NOTE,
            warnings=self.warnings,
            data=self.wide.long,
        )
        return Estimates(frame, description)

    def delta_template(
        self, delta: Sequence[float] | None = None, lag: Sequence[float] | None = None, *, missing_only: bool = True
    ) -> pd.DataFrame:
        """A table of subject, visit and ``delta`` for `analyse`, to be edited at will.

        ``delta`` is the running sum of delta * lag over the visits from the first affected one on, where delta belongs
        to the visit and lag to the number of visits since the event; it is 0 before the event.

        Parameters
        ----------
        delta : one number per visit (default 0)
        lag : one number per visit since the event (default 1, 0, 0, ...: the delta of the first affected visit stays)
        missing_only : 0 where the outcome was seen

        Agrees with
        -----------
        R rbmi, ``delta_template(delta, dlag, missing_only)``.
        """
        return template(self.wide, delta, lag, missing_only)

    def _all(self) -> FloatArray:
        y = np.repeat(self.wide.y[None], len(self), axis=0)
        y[:, self._cells[0], self._cells[1]] = self._imputed
        return y

    def _resampled(
        self, run: Any, shifts: Sequence[FloatArray], estimates: list[FloatArray], how: str, replicates: int
    ) -> list[Pooled]:
        """Standard errors from refitting, imputing and analysing leave-one-out or resampled trials."""
        times = leave_one_out(self.wide) if how == "jackknife" else bootstrap_counts(self.wide, replicates)
        alone = how == "jackknife" and self.plan.cluster is None
        every = refit_without(self.wide, self.model) if alone else None
        found: list[list[FloatArray]] = [[] for _ in shifts]
        lost = 0
        for first in range(0, len(times), CHUNK):
            part = times[first : first + CHUNK]
            chunk = slice(first, first + CHUNK)
            model = refit(self.wide, part, self.model) if every is None else taken(every, chunk)
            lost += int((~model.kept).sum())
            y = np.repeat(self.wide.y[None], int(model.kept.sum()), axis=0)
            y[:, self._cells[0], self._cells[1]] = impute_cells(self.wide, only(model), None)
            for made, shift in zip(found, shifts, strict=True):
                made.append(run.replicates(y + shift, part[model.kept]))
        self._tell(lost, len(times), how)
        error = jackknife_error if how == "jackknife" else bootstrap_error
        return [resampled(one, error(np.concatenate(made))) for one, made in zip(estimates, found, strict=True)]

    def _tell(self, lost: int, of: int, how: str) -> None:
        if of - lost < 2:
            raise ConvergenceError(f"{how}: {of - lost} of {of} refits converged, so there is no standard error.")
        if lost:
            message = f"{lost} of {of} refits of the {how} did not converge and are left out of the standard error."
            warn(message)

    def _sentence(self) -> str:
        wide, plan = self.wide, self.plan
        cells = list(zip(*self._cells, strict=True))
        affected = sum(self._strategy_of(i, s) != "MAR" for i, s in cells)
        by = plan.strategy if isinstance(plan.strategy, str) else f"the strategy of {plan.reason}"
        return (
            f"{plan.method} imputation from {plan.formula} (REML); {len(wide.y)} subjects, "
            f"{wide.y.size} planned values, {len(cells)} imputed, {affected} of them by {by}, "
            f"the others under MAR; reference arm {plan.reference}."
        ) + (f" Nobody has an outcome at {first_ids(wide.without)}, so it was not imputed." if wide.without else "")


VARIANCE_NOTE = (
    "Rubin's variance is information anchored; jackknife and bootstrap give the frequentist variance of the estimate."
)


def impute(
    data: FrameLike | Any, plan: ImputationPlan | Mapping[str, Any] | None = None, **options: Any
) -> Imputations:
    """Impute missing outcomes of a longitudinal trial under MAR or a reference-based strategy.

    The imputation model is an MMRM (usually with unstructured covariance) fitted by REML to what was seen (outcomes
    seen after the event are left out of the fit under a reference-based strategy, and kept in the completed data).

    Parameters
    ----------
    data : long table with one row per subject and visit (missing rows are added), or a Trial (its ADQS is used)
    plan : an ImputationPlan or a mapping with its fields; single fields may also be given by name

    Raises
    ------
    FormulaError
        When the model is not an MMRM (``method="bayes"``: with ``us`` covariance), or a name is not known.
    DataError
        When a covariate is missing, a subject changes arm, or the strategy needs a visit before the event.
    ConvergenceError
        When the imputation model cannot be fitted.

    Agrees with
    -----------
    R rbmi 1.5.2 (conditional mean imputation, jackknife): imputed values, estimates and standard errors to 1e-6.

    Notes
    -----
    Planned visits are those at which somebody has an outcome: the baseline row of a change score is not imputed.

    References
    ----------
    Carpenter, Roger & Kenward (2013), doi 10.1080/10543406.2013.834911. Wolbers et al. (2022), doi 10.1002/pst.2234.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> frame = pd.DataFrame({"id": np.repeat(np.arange(40), 3), "visit": np.tile([1, 2, 3], 40)})
    >>> frame["arm"] = np.where(frame["id"] < 20, "Placebo", "KAP")
    >>> frame["y"] = rng.normal(size=120) + np.repeat(rng.normal(size=40), 3) - (frame["arm"] == "KAP")
    >>> frame.loc[(frame["id"] % 4 == 1) & (frame["visit"] == 3), "y"] = np.nan
    >>> model = "y ~ arm*visit + us(visit | id)"
    >>> imputed = impute(frame, formula=model, arm="arm", reference="Placebo", strategy="J2R")
    >>> len(imputed.values()), imputed.analyse("arm").filter(visit=3, quantity="difference")["contrast"].tolist()
    (10, ['KAP - Placebo'])
    """
    settled = _settle(plan, options)
    wide = widen(frames.to_pandas(getattr(data, "adqs", data)), settled)
    said = few_values(wide)
    model, message = fit_model(wide)
    return Imputations(wide, model, tuple(filter(None, (said, message))))


def _settle(plan: ImputationPlan | Mapping[str, Any] | None, options: Mapping[str, Any]) -> ImputationPlan:
    known = [f.name for f in fields(ImputationPlan)]
    given = dict(plan) if isinstance(plan, Mapping) else {}
    for name in (*given, *options):
        if name not in known:
            raise FormulaError(
                f"ImputationPlan has no field {name!r}.{nearest(name, known)} Fields: {', '.join(known)}."
            )
    if isinstance(plan, ImputationPlan):
        return _checked(replace(plan, **options))
    missing = [n for n in ("formula", "arm", "reference") if n not in given and n not in options]
    if missing:
        raise FormulaError(f"impute: {missing[0]} is needed (formula, arm and reference have no default).")
    return _checked(ImputationPlan(**{**given, **options}))


def _checked(plan: ImputationPlan) -> ImputationPlan:
    choose(plan.method, METHODS, "method")
    if isinstance(plan.strategy, str):
        name = ALIASES.get(plan.strategy.upper(), plan.strategy.upper())
        return replace(plan, strategy=choose(name, reference_based.STRATEGIES, "strategy"))
    if plan.reason is None:
        raise FormulaError("strategy is a mapping: name the column of reasons with reason=.")
    upper = {k: ALIASES.get(v.upper(), v.upper()) for k, v in plan.strategy.items()}
    return replace(plan, strategy={k: choose(v, reference_based.STRATEGIES, "strategy") for k, v in upper.items()})
