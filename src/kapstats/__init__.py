"""kapstats: response, relapse and side effects in trials of ketamine-assisted psychotherapy.

Every public name is loaded on first use, so that ``import kapstats`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: public name -> the module that defines it; a module of ours stands for itself
_EXPORTS: dict[str, str] = {
    "errors": "kapstats.errors",
    "Estimates": "kapstats.estimates",
    "Curve": "kapstats.estimates",
    "Table": "kapstats.table",
    "Trial": "kapstats.data.trial",
    "read_adam": "kapstats.data.readers",
    "read_chunks": "kapstats.data.chunks",
    "datasets": "kapstats.data.datasets",
    "derive": "kapstats.data.derive",
    "baseline_table": "kapstats.data.baseline",
    "disposition": "kapstats.data.disposition",
    "exposure_table": "kapstats.data.exposure",
    "listing": "kapstats.data.listing",
    "mmrm": "kapstats.response.mmrm",
    "MmrmStatistics": "kapstats.response.mmrm",
    "lmm": "kapstats.response.lmm",
    "glmm": "kapstats.response.glmm",
    "ancova": "kapstats.response.ancova",
    "gee": "kapstats.response.gee",
    "crossover": "kapstats.response.crossover",
    "impute": "kapstats.response.imputation",
    "tipping_point": "kapstats.response.tipping_point",
    "ImputationPlan": "kapstats.response.imputation_data",
    "Estimand": "kapstats.response.estimand",
    "intercurrent_events": "kapstats.response.intercurrent",
    "principal_effect": "kapstats.response.principal",
    "blinding_index": "kapstats.response.blinding",
    "effect_by_guess": "kapstats.response.unblinding",
    "expectancy_bound": "kapstats.response.unblinding",
    "missing_patterns": "kapstats.response.missing",
    "dropout_reasons": "kapstats.response.missing",
    "response_bounds": "kapstats.response.missing",
    "separation": "kapstats.response.onset",
    "time_to_response": "kapstats.response.onset",
    "onset_curve": "kapstats.response.onset",
    "dose_response": "kapstats.response.dose",
    "mcp_mod": "kapstats.response.dose",
    "kaplan_meier": "kapstats.relapse.kaplan_meier",
    "logrank": "kapstats.relapse.logrank",
    "cox": "kapstats.relapse.cox",
    "rmst": "kapstats.relapse.rmst",
    "win_ratio": "kapstats.relapse.win_ratio",
    "parametric_survival": "kapstats.relapse.parametric",
    "turnbull": "kapstats.relapse.interval",
    "interval_cox": "kapstats.relapse.interval_cox",
    "cumulative_incidence": "kapstats.relapse.competing",
    "gray_test": "kapstats.relapse.competing",
    "fine_gray": "kapstats.relapse.fine_gray",
    "cause_specific": "kapstats.relapse.cause_specific",
    "state_occupation": "kapstats.relapse.multistate",
    "project_events": "kapstats.relapse.sequential_combination",
    "recurrent": "kapstats.relapse.recurrent",
    "mean_cumulative_function": "kapstats.relapse.recurrent",
    "derive_relapse": "kapstats.relapse.endpoint",
    "RelapseDefinition": "kapstats.relapse.endpoint",
    "GroupSequentialDesign": "kapstats.relapse.sequential",
    "weighted_logrank_combination": "kapstats.relapse.sequential_combination",
    "proportion": "kapstats.safety.proportion",
    "risk_difference": "kapstats.safety.difference",
    "risk_ratio": "kapstats.safety.difference",
    "odds_ratio": "kapstats.safety.difference",
    "rate": "kapstats.safety.rate",
    "rate_ratio": "kapstats.safety.rate",
    "rate_difference": "kapstats.safety.rate",
    "incidence": "kapstats.safety.incidence",
    "paired_difference": "kapstats.safety.paired",
    "paired_odds_ratio": "kapstats.safety.paired",
    "paired_risk_ratio": "kapstats.safety.paired",
    "trend_test": "kapstats.safety.trend",
    "cmh_test": "kapstats.safety.stratified",
    "homogeneity": "kapstats.safety.stratified",
    "zero_events": "kapstats.safety.proportion",
    "crude_and_stratified": "kapstats.safety.routes",
    "exposure_matched": "kapstats.safety.routes",
    "propensity_weighted": "kapstats.safety.routes",
    "number_needed_to_harm": "kapstats.safety.routes",
    "acute_course": "kapstats.safety.course",
    "safety_signals": "kapstats.safety.signals",
    "meta_analysis": "kapstats.evidence.meta_analysis",
    "meta_regression": "kapstats.evidence.meta_regression",
    "network_meta_analysis": "kapstats.evidence.network",
    "subgroups": "kapstats.evidence.subgroups",
    "reconstruct_ipd": "kapstats.evidence.reconstruct",
    "audit": "kapstats.evidence.audit",
    "fingerprint": "kapstats.evidence.fingerprint",
    "gallery": "kapstats.evidence.gallery",
    "evidence": "kapstats.evidence",
    "simulate": "kapstats.simulation.scenario",
    "Scenario": "kapstats.simulation.scenario",
    "certify": "kapstats.certification.study",
    "certificates": "kapstats.certification.programme",
    "run": "kapstats.pipeline.run",
    "plan_kinds": "kapstats.pipeline.kinds",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        from kapstats.errors import nearest

        raise AttributeError(f"module 'kapstats' has no attribute {name!r}.{nearest(name, _EXPORTS)}")
    module = importlib.import_module(_EXPORTS[name])
    is_module = module.__name__.endswith(f".{name}") and not hasattr(module, name)
    value = module if is_module else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_EXPORTS, "__version__"])
