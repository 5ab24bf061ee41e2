"""Every method, test and model that the safety reference files name is compared by a test; what is not is said here."""

import csv
import gzip
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = "".join((HERE / f"test_safety_{name}.py").read_text() for name in ("tables", "sim", "signals"))
#: columns that name what was computed
NAMING = {
    "one_sample_proportion_ci": ("method",),
    "two_sample_ci": ("method",),
    "two_sample_tests": ("test",),
    "two_sample_exact_unconditional": ("method",),
    "one_sample_rate_ci": ("method",),
    "two_sample_rates": ("method",),
    "stratified_results": ("method",),
    "trend_results": ("method",),
    "paired_results": ("method",),
}
#: named in the tests by how they begin, or by another form of the same number
OTHERWISE = {
    "fisher_greater": "fisher_greater",
    "Cochran-Armitage chi2 = prop.trend.test": "Cochran-Armitage z",
    "barnard_pooled_z_two_sided": "barnard_pooled_z",
    "boschloo_two_sided_fisher_minlike_ordering": "boschloo",
    "summary score: inverse-variance pool of stratum score-interval midpoints, "
    "Miettinen-Nurminen stratum intervals": "Miettinen-Nurminen stratum intervals",
}
MODELS = (
    "poisson nae~",
    "quasipoisson",
    "poisson, sandwich",
    "glm.nb",
    "logistic any",
    "Firth logistic (logistf)",
    "Firth profile-likelihood limits",
    "glmer",
    "survreg Weibull",
    "survreg lognormal",
)
FILES = (
    "sim_ae_counts",
    "sim_ae_maxgrade_counts",
    "sim_ae_comparisons",
    "sim_eair_eaer",
    "sim_time_to_first_ae",
    "sim_savvy_estimators",
    "sim_mcf_all_teae",
    "sim_prevalence_since_dose",
    "sim_resolution_turnbull",
    "sim_resolution_aft",
    "sim_acute_course",
    "sim_cadss_summary",
    "sim_gray_tests",
    "sim_models",
    "sim_ordinal_maxgrade",
)


def rows(name):
    path = HERE / "safety" / f"{name}.csv"
    text = path.read_text() if path.exists() else gzip.decompress(path.with_suffix(".csv.gz").read_bytes()).decode()
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("name", NAMING)
def test_every_name_in_a_file_is_compared(name):
    named = {row[column] for row in rows(name) for column in NAMING[name]}
    assert len(named) >= 4
    assert {n for n in named if OTHERWISE.get(n, n) not in TESTS} == set()


def test_every_model_and_every_simulated_file_is_compared():
    assert [m for m in (*MODELS, *(f'"{f}"' for f in FILES)) if m not in TESTS] == []
