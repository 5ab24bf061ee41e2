"""The validation page is made from the certificates and nothing else."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kapstats.certification import programme, validation
from kapstats.evidence import gallery

FOLDER = Path(__file__).parents[2] / "docs" / "certificates"


@pytest.fixture(scope="module")
def page():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ZIP_REPLICATES", 40)
        return validation.page(validation.load(FOLDER), FOLDER / "reference-agreement.tsv")


def test_every_certificate_is_on_the_page(page):
    for certificate, _ in validation.load(FOLDER):
        assert certificate.name in page
    assert len(validation.load(FOLDER)) == len(list(FOLDER.glob("*.csv")))


def test_the_page_needs_nothing_from_outside(page):
    assert "src=" not in page
    assert set(re.findall(r"href=\S+", page)) <= {'href="#main">Skip'}
    assert page.count("<svg") == 2 + len(validation.ZIPS)
    assert page.count("<table") == page.count("</table>")


def test_controls_are_called_so_and_fail(page):
    loaded = validation.load(FOLDER)
    controls = [validation.summary_row(c, f) for c, f in loaded if c.control]
    assert controls
    assert all(row[-2].startswith("fails (negative control") for row in controls)
    assert all(validation.summary_row(c, f)[-2] == "passes" for c, f in loaded if not c.control)


def test_names_of_certificates_are_unique():
    names = [c.name for c in programme.PROGRAMME]
    assert len(set(names)) == len(names)


def test_an_estimand_that_fails_is_drawn_in_another_colour():
    loaded = [(c, f) for c, f in validation.load(FOLDER) if c.estimator in ("mmrm-z", "mmrm")]
    passing, failing = (validation.coverage_picture([x for x in loaded if x[0].control == k]) for k in (False, True))
    assert validation.BAD not in passing
    assert validation.BAD in failing


def test_agreement_with_other_software_and_published_results_are_on_the_page(page):
    every = (FOLDER / "reference-agreement.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert f"{len(every)} comparisons" in page
    assert all(row.split("\t")[3].split(",")[0] in page for row in every)
    lines = gallery.run_all()
    exact = lines[lines.kind == "exact"]
    assert f"{int(exact.agrees.sum())} of {len(exact)} printed numbers" in page
    assert all(escape(entry.source) in page for entry in gallery.ENTRIES)


def test_the_page_stands_without_a_list_of_comparisons(tmp_path):
    assert validation.reference_table(tmp_path / "nothing.tsv") == ""


def test_coverage_of_score_limits_is_what_enumeration_says():
    """All 41 x 41 tables of two arms of 40, weighted: what the certificate of 170 risk differences estimates."""
    from scipy.special import bdtr

    from kapstats.kernels import score_intervals, two_proportions
    from kapstats.simulation.truth import truth

    n = 40
    x1, x2 = (v.ravel().astype(float) for v in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    size = np.full(x1.size, float(n))
    limits = [f(x1, size, x2, size, 0.025) for f in (score_intervals.difference_limits, two_proportions.newcombe)]
    known = truth("kap-parallel")
    risk = {(r["TRT01P"], r["AEBODSYS"], r["AEDECOD"]): r["value"] for r in known["incidence"]}

    def chance(p):
        return np.diff(bdtr(np.arange(n + 1), n, p), prepend=0.0)

    exact = []
    for row in known["risk_difference"]:
        p1, p2 = (risk[arm, row["AEBODSYS"], row["AEDECOD"]] for arm in (row["TRT01P"], "Placebo"))
        weight = np.outer(chance(p1), chance(p2)).ravel()
        exact.append([weight[(low <= p1 - p2) & (p1 - p2 <= high)].sum() for low, high in limits])
    score, newcombe = np.array(exact).T
    kept = pd.read_csv(FOLDER / "risk_difference--kap-parallel--n240.csv")
    error = np.sqrt(score * (1 - score) / kept.replicates)
    assert (np.abs(kept.coverage - score) < 4.5 * error).all()
    assert score.min() == pytest.approx(0.9349, abs=2e-4)
    assert (score < 0.945).sum() == 9
    assert newcombe.min() == pytest.approx(0.9439, abs=2e-4)
