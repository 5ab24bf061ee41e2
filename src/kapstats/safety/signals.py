"""Which adverse event terms stand out: error rates across terms, and a Bayesian model that shares strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kapstats import estimates, frames
from kapstats._types import FloatArray, IntArray
from kapstats.errors import FormulaError, choose, warn
from kapstats.estimates import Estimates
from kapstats.inference.intervals import check_level, wald
from kapstats.kernels import berry_berry, false_discovery
from kapstats.kernels.max_t import step_down_max_t
from kapstats.safety import covariates as columns_of
from kapstats.safety import two_by_two as pairs
from kapstats.safety.comparison import ADJUSTMENTS
from kapstats.safety.incidence import choose_arm, membership

if TYPE_CHECKING:
    from kapstats.safety.incidence import Incidence

WEIGHTED = (
    "group-bh controls the false discovery rate in large systems only: with systems of five terms and uniform p values "
    "it was 8% at 5%. Fisher's p values are conservative enough to keep it below."
)
#: models of one rare event and what they report
MODELS = {
    "firth": "Firth logistic regression, profile limits",
    "logistic": "logistic regression, Wald limits",
    "beta-binomial": "beta-binomial, Wald limits",
}
METHODS = ("double-fdr", "group-bh", *ADJUSTMENTS, "berry-berry", "max-t")
PRIORS = (
    "g ~ N(mg_b, sg_b); h = 0 with probability pi_b, else N(mh_b, sh_b); mg_b, mh_b ~ N(grand means, tg, th); "
    "grand means ~ N(0, {variance:g}); variances ~ InverseGamma({shape:g}, {rate:g}); pi_b ~ Beta(alpha, beta); "
    "{weights} above 1"
)


def safety_signals(
    ae: Incidence,
    method: str = "double-fdr",
    *,
    reference: Any = None,
    test: str = "fisher",
    rate: float = 0.05,
    strata: str | None = None,
    seed: int = 1,
    draws: int = 2000,
    burn_in: int = 500,
    chains: int = 4,
    permutations: int = 10_000,
    level: float = 0.95,
    priors: Mapping[str, float] | None = None,
) -> Estimates:
    """Flag terms in which a group differs from the reference, with the error over all terms controlled.

    Parameters
    ----------
    ae : `ks.incidence` with a body system and a term
    method : double-fdr (Benjamini-Hochberg within and between body systems), group-bh (Benjamini-Hochberg weighted by
        the estimated shares of nulls of the systems; warns, since it is not controlled in small ones), bh, by, holm,
        hochberg, hommel, bonferroni, none; berry-berry (three-level Bayesian model); max-t (step-down permutation of
        subjects between arms, within `strata`)
    test : two-sided test behind the p values (see `Incidence.compare`)
    rate : false discovery rate, or family-wise error, for the flag; for berry-berry a term is flagged when the
        posterior probability of a higher risk is at least 1 - rate
    strata : ADSL column within which max-t permutes
    seed, draws, burn_in, chains, permutations : of berry-berry and max-t
    priors : of berry-berry, those of Berry & Berry unless changed: alpha and beta (rates 0.1 of the exponentials of the
        weights), shape and rate (3 and 1, inverse gamma of all variances), variance (10, of the grand means). c212
        takes ``{"alpha": 1, "beta": 1}``

    Returns
    -------
    Estimates with the terms, contrast "A - B", x1 n1 x2 n2, estimate (risk difference; for berry-berry the posterior
    mean of the log odds ratio, with probability_higher, probability_null, rhat, effective), p_value, p_adjusted,
    p_group (double-fdr) and signal.

    Agrees with
    -----------
    c212 1.0.1 (double-fdr flags, identical); R p.adjust.

    References
    ----------
    Mehrotra & Adewale (2012), Statistics in Medicine 31:1918. Berry & Berry (2004), Biometrics 60:418. Hu, Zhao &
    Zhou (2010), JASA 105:1215 (group-bh). Westfall & Young (1993), Resampling-Based Multiple Testing.
    """
    choose(method, METHODS, "method")
    check_level(level)
    if not ae.terms:
        raise FormulaError("safety_signals needs terms: give terms=['AEBODSYS', 'AEDECOD'] to incidence.")
    if strata is not None:
        frames.require(ae.records.subjects, [strata], "ADSL")
    base = choose_arm(ae.reference if reference is None else reference, ae.records)
    hyper = _priors(priors, method)
    columns_of.need_two_groups(ae)
    rows = _leaves(ae)
    parts: list[pd.DataFrame] = []
    said = [WEIGHTED] if method == "group-bh" else []
    for arm in (i for i in range(len(ae.arms)) if i != base):
        frame = _table(ae, rows, arm, base)
        table = tuple(frame[name].to_numpy(dtype=float) for name in pairs.NAMES)
        group = pd.factorize(frame[ae.terms[0]])[0].astype(np.int64)
        if method == "berry-berry":
            frame, more = _berry(frame, table, group, rate, level, seed, draws, burn_in, chains, hyper)
            said += more
        elif method == "max-t":
            frame = _max_t(ae, frame, rows, arm, base, strata, seed, permutations, rate)
        else:
            frame = _adjusted(frame, table, group, method, test, rate)
        parts.append(frame)
    for text in said:
        warn(text)
    return Estimates(pd.concat(parts, ignore_index=True), _meta(ae, method, test, rate, seed, level, said, hyper))


def _priors(given: Mapping[str, float] | None, method: str) -> berry_berry.Priors:
    """Hyperparameters by name; those not given are Berry & Berry's."""
    if given and method != "berry-berry":
        raise FormulaError(f"priors= belongs to method='berry-berry', not to {method!r}.")
    names = berry_berry.Priors.__dataclass_fields__
    for name, value in (given or {}).items():
        choose(name, names, "priors")
        if not np.isfinite(value) or value <= 0:
            raise FormulaError(f"priors: {name} is {value}, and must be a number above 0.")
    return berry_berry.Priors(**{name: float(value) for name, value in (given or {}).items()})


def _in_words(priors: berry_berry.Priors) -> str:
    apart = f"alpha ~ Exponential({priors.alpha:g}), beta ~ Exponential({priors.beta:g})"
    weights = f"alpha, beta ~ Exponential({priors.alpha:g})" if priors.alpha == priors.beta else apart
    return PRIORS.format(variance=priors.variance, shape=priors.shape, rate=priors.rate, weights=weights)


def _leaves(ae: Incidence) -> IntArray:
    """Rows of the table that are narrowest terms."""
    keys = ae.frame.iloc[:: len(ae.arms)]
    leaf = (keys[ae.terms[-1]] != "") & (keys["level"] != "GROUP")
    return np.flatnonzero(leaf.to_numpy()).astype(np.int64)


def _table(ae: Incidence, rows: IntArray, arm: int, base: int) -> pd.DataFrame:
    n = len(ae.arms)
    counts = ae.frame["n_subjects"].to_numpy().reshape(-1, n)[rows]
    frame = ae.frame[list(ae.terms)].iloc[::n].iloc[rows].reset_index(drop=True)
    frame["contrast"] = f"{ae.arms[arm]} - {ae.arms[base]}"
    x1, x2, n1, n2 = counts[:, arm], counts[:, base], int(ae.records.size[arm]), int(ae.records.size[base])
    return frame.assign(x1=x1, n1=n1, x2=x2, n2=n2, estimate=x1 / n1 - x2 / n2)


Table = tuple[FloatArray, ...]


def _adjusted(frame: pd.DataFrame, table: Table, group: IntArray, method: str, test: str, rate: float) -> pd.DataFrame:
    p = pairs.p_values((table[0], table[1], table[2], table[3]), test)
    frame = frame.assign(p_value=p)
    if method == "double-fdr":
        within, across = false_discovery.double_fdr(p, group)
        return frame.assign(p_adjusted=within, p_group=across, signal=(within <= rate) & (across <= rate))
    if method == "group-bh":
        adjusted = false_discovery.group_benjamini_hochberg(p, group)
        return frame.assign(p_adjusted=adjusted, signal=adjusted <= rate)
    adjusted = ADJUSTMENTS[method](p)
    return frame.assign(p_adjusted=adjusted, signal=adjusted <= rate)


def _berry(
    frame: pd.DataFrame,
    table: Table,
    group: IntArray,
    rate: float,
    level: float,
    seed: int,
    draws: int,
    burn_in: int,
    chains: int,
    priors: berry_berry.Priors,
) -> tuple[pd.DataFrame, list[str]]:
    x1, n1, x2, n2 = table
    generator = np.random.default_rng(seed)
    size = {"draws": draws, "burn_in": burn_in, "chains": chains}
    found = berry_berry.sample(x2, n2, x1, n1, group, generator, **size, priors=priors)
    values = found.log_odds_ratio.reshape(-1, x1.size)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    higher = (values > 0).mean(axis=0)
    frame = frame.assign(
        estimate=values.mean(axis=0),
        std_error=values.std(axis=0, ddof=1),
        conf_low=low,
        conf_high=high,
        probability_higher=higher,
        probability_null=(values == 0).mean(axis=0),
        rhat=found.rhat,
        effective=found.effective,
        signal=higher >= 1 - rate,
    )
    bad = frame.loc[(found.rhat > 1.05) | (found.effective < 100), frame.columns[0]]
    text = f"berry-berry: {len(bad)} terms with R-hat above 1.05 or fewer than 100 effective draws. Raise draws=."
    return frame, [text] if len(bad) else []


def _max_t(
    ae: Incidence,
    frame: pd.DataFrame,
    rows: IntArray,
    arm: int,
    base: int,
    strata: str | None,
    seed: int,
    permutations: int,
    rate: float,
) -> pd.DataFrame:
    records = ae.records
    held = np.flatnonzero((records.arm == arm) | (records.arm == base))
    event = indicator(ae, rows)[held]
    stratum = np.zeros(held.size, dtype=np.int64)
    if strata is not None:
        frames.require(records.subjects, [strata], "ADSL")
        stratum = pd.factorize(records.subjects[strata].astype("object"), use_na_sentinel=False)[0][held].astype(
            np.int64
        )
    generator = np.random.default_rng(seed)
    z, raw, adjusted = step_down_max_t(event, records.arm[held] == arm, stratum, generator, permutations)
    return frame.assign(statistic=z, p_value=raw, p_adjusted=adjusted, signal=adjusted <= rate)


def indicator(ae: Incidence, rows: IntArray) -> FloatArray:
    """(subjects, rows) 1 where the subject had an event of the row."""
    place = np.full(len(ae.frame) // len(ae.arms), -1)
    place[rows] = np.arange(rows.size)
    out = np.zeros((ae.records.arm.size, rows.size))
    for members, target in membership(ae):
        at = place[target]
        out[ae.records.subject[members[at >= 0]], at[at >= 0]] = 1.0
    return out


def _meta(
    ae: Incidence,
    method: str,
    test: str,
    rate: float,
    seed: int,
    level: float,
    said: list[str],
    priors: berry_berry.Priors,
) -> dict[str, Any]:
    basis = {
        "berry-berry": f"priors: {_in_words(priors)}; seed {seed}",
        "max-t": f"permutation of |CMH z|, seed {seed}",
    }
    sentence = f"{method} at {rate:g}; {basis.get(method, f'two-sided {test} p values')}; {'; '.join(ae.records.notes)}"
    return estimates.meta(
        method=method,
        level=level,
        adjustment=method,
        title=f"Signals across adverse event terms ({method})",
        sentence=sentence,
        warnings=(*ae.warnings, *said),
        data=ae.records.fingerprint(),
        frame_kind=ae.records.kind,
        scale="log" if method == "berry-berry" else "identity",
        measure="odds ratio" if method == "berry-berry" else "",
        seed=seed,
    )


def rare_event_model(
    ae: Incidence,
    term: str,
    *,
    method: str = "firth",
    covariates: tuple[str, ...] = (),
    strata: str = "STUDYID",
    level: float = 0.95,
) -> Estimates:
    """Estimate odds ratios of a rare event against the reference, without adding anything to zero counts.

    Parameters
    ----------
    term : a term of any level
    method : firth (logistic regression of subjects with Firth's penalty, adjusted for ADSL `covariates`; finite with
        zero counts), logistic (the same without a penalty, Wald limits), or beta-binomial
        (counts by group and level of `strata`, which may vary more than binomially)

    Returns
    -------
    Estimates with contrast "A - B", estimate (log odds ratio), std_error, p_value and limits: by penalised profile
    likelihood (firth) or Wald (logistic; beta-binomial, with the intra-class correlation in ``.meta["rho"]``).
    ``exponentiate()`` gives odds ratios. A group without events has no finite logistic or beta-binomial estimate: NaN,
    with a warning.

    Agrees with
    -----------
    logistf 1.26.1 (coefficients and profile limits), R 4.2.2 glm, 1e-5.

    References
    ----------
    Firth (1993), Biometrika 80:27. Heinze & Schemper (2002), Statistics in Medicine 21:2409. Kuss (2015), Statistics in
    Medicine 34:1097 (beta-binomial).
    """
    from kapstats.safety.follow_up import rows_of

    choose(method, MODELS, "method")
    check_level(level)
    y = np.zeros(ae.records.arm.size)
    y[ae.records.subject[rows_of(ae, term)]] = 1.0
    if method == "beta-binomial":
        columns, said, more = _beta_rows(ae, y, strata, level)
    else:
        columns, said, more = (_firth_rows if method == "firth" else _logistic_rows)(ae, y, covariates, level)
    frame = pd.DataFrame({"contrast": columns_of.contrasts(ae), **columns})
    for text in said:
        warn(text)
    described = _meta(ae, "none", "penalised likelihood ratio", 0.05, 0, level, said, berry_berry.Priors())
    described |= {"method": f"{method} model", "title": f"Odds ratios of {term}", "scale": "log"}
    described |= {"measure": "odds ratio", **more}
    how = MODELS[method] + (f" by {strata}" if method == "beta-binomial" else "")
    described["sentence"] = f"{how}; {int(y.sum())} of {y.size} subjects with {term}"
    return Estimates(frame, described)


Rows = tuple[dict[str, Any], list[str], dict[str, Any]]


def _logistic_rows(ae: Incidence, y: FloatArray, covariates: tuple[str, ...], level: float) -> Rows:
    """Maximum likelihood; NaN throughout where a coefficient has no finite estimate."""
    from kapstats.kernels.cumulative_logit import cumulative_logit

    q = len(ae.arms) - 1
    if y.min() == y.max():
        return _columns(*(np.full(q, np.nan) for _ in range(5))), ["logistic: every subject has the same outcome."], {}
    fit = cumulative_logit(y.astype(np.int64), columns_of.design(ae, covariates))
    if not fit.converged:
        said = ["logistic: a group, or a combination of covariates, has no finite odds ratio; use method='firth'."]
        return _columns(*(np.full(q, np.nan) for _ in range(5))), said, {}
    estimate, error = fit.coefficients[:q], np.sqrt(np.diag(fit.covariance))[1 : q + 1]
    found = wald(estimate, error, level=level)
    columns = _columns(estimate, error, *(found[c] for c in ("p_value", "conf_low", "conf_high")))
    return columns, [], {"loglik": fit.loglik}


def _firth_rows(ae: Incidence, y: FloatArray, covariates: tuple[str, ...], level: float) -> Rows:
    from kapstats.kernels.firth import firth, profile_limits

    X = np.column_stack([np.ones(y.size), columns_of.design(ae, covariates)])
    fit, q = firth(y, X), len(ae.arms)
    limits = [profile_limits(fit, y, X, k, level) for k in range(1, q)]
    error = np.sqrt(np.diag(fit.covariance))[1:q]
    low, high, p = (np.array([limit[i] for limit in limits]) for i in range(3))
    said = [] if fit.converged else ["Firth's regression did not converge."]
    return _columns(fit.coefficients[1:q], error, p, low, high), said, {}


def _columns(
    estimate: FloatArray, error: FloatArray, p: FloatArray, low: FloatArray, high: FloatArray
) -> dict[str, FloatArray]:
    return {"estimate": estimate, "std_error": error, "p_value": p, "conf_low": low, "conf_high": high}


def _beta_rows(ae: Incidence, y: FloatArray, strata: str, level: float) -> Rows:
    from kapstats.kernels.beta_binomial import beta_binomial

    others = columns_of.others(ae)
    frames.require(ae.records.subjects, [strata], "ADSL")
    stratum = pd.factorize(ae.records.subjects[strata].astype("object"), use_na_sentinel=False)[0]
    cell = stratum * len(ae.arms) + ae.records.arm
    n = np.bincount(cell).astype(float)
    x, arm = np.bincount(cell, weights=y).astype(float), np.arange(n.size) % len(ae.arms)
    held = n > 0
    x, n, arm = x[held], n[held], arm[held]
    base = ae.arms.index(ae.reference)
    some = [i for i in others if 0 < x[arm == i].sum() < n[arm == i].sum()]
    empty = np.full(len(others), np.nan)
    columns = _columns(*(empty.copy() for _ in range(5)))
    lost = [str(ae.arms[i]) for i in others if i not in some]
    said = [f"beta-binomial: no finite odds ratio for {', '.join(lost)}; use method='firth'."] if lost else []
    if not 0 < x[arm == base].sum() < n[arm == base].sum() or not some:
        return columns, ["beta-binomial: the reference has no event; use method='firth'."], {"rho": np.nan}
    use = np.isin(arm, [base, *some])
    X = np.column_stack([np.ones(use.sum()), *((arm[use] == i).astype(float) for i in some)])
    fit = beta_binomial(x[use], n[use], X)
    estimate, error = fit.coefficients[1:], np.sqrt(np.diag(fit.covariance))[1:]
    found = wald(estimate, error, level=level)
    at = [others.index(i) for i in some]
    for name, values in {"estimate": estimate, "std_error": error, **found}.items():
        if name in columns:
            columns[name][at] = values
    return columns, said + ([] if fit.converged else ["The beta-binomial fit did not converge."]), {"rho": fit.rho}
