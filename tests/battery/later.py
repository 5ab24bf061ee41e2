"""Pairs that wait for a change that has a name; strict, so that a pair that passes has to leave the list."""

from __future__ import annotations

OPTIONS = "options become objects with a type and a range, checked in one place"
NAMED = "one gate in: only the columns that an estimator names are read and counted in the fingerprint"
TYPED = "typed results: a comparison knows whether it is a difference or a ratio"


def _pairs(law: str, reason: str, cases: str) -> dict[tuple[str, str], str]:
    return {(law, case): reason for case in cases.split()}


LATER: dict[tuple[str, str], str] = {
    **_pairs(
        "dress-untouchable",
        NAMED,
        "effect_by_guess meta_analysis meta_analysis-difference meta_regression network_meta_analysis "
        "reconstruct_ipd baseline_table disposition exposure_table",
    ),
    **_pairs("choices_refused", OPTIONS, "ancova ancova-visit gee parametric_survival recurrent-counts incidence"),
    **_pairs(
        "numbers_refused",
        OPTIONS,
        "ancova ancova-visit response_bounds separation time_to_response mcp_mod kaplan_meier logrank cox "
        "cox-entry cox-frailty turnbull gray_test project_events recurrent recurrent-counts "
        "weighted_logrank_combination rate incidence propensity_weighted safety_signals acute_course "
        "meta_analysis meta_analysis-difference meta_regression network_meta_analysis fingerprint listing",
    ),
    **_pairs("contrasts_are_labelled", TYPED, "glmm gee"),
    **_pairs("ratios_print_as_ratios", TYPED, "GroupSequentialDesign"),
}
