# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # For reviewers: can these numbers be right, how were they made, what do they add up to?
#
# A reviewer has no data, only a table. This notebook takes printed tables of ketamine trials and asks four questions.

# %%
import pandas as pd

import kapstats as ks

# %% [markdown]
# ## 1. Can it be right?
#
# Each number is held against the others on its line. Text keeps the printed digits.

# %%
printed = pd.DataFrame(
    [
        {"study": "KETIS abstract", "arm": "ketamine", "events": 46, "n": 83, "percent": "63.0"},
        {"study": "KETIS abstract", "arm": "placebo", "events": 25, "n": 73, "percent": "31.6"},
        {"study": "TRANSFORM-1, hypoesthesia", "arm": "esketamine", "events": 30, "n": 231, "percent": "13.3"},
    ]
)
findings = ks.audit(printed)
findings.to_frame()[["study", "arm", "check", "printed", "implied", "distance", "severity"]]

# %% [markdown]
# The first row prints 46 (63.0%) of 83, but 46 is 63.0% of 73, which stands in the other arm. The same works for
# limits, standard errors, p values, and means of whole numbers:

# %%
lines = pd.DataFrame(
    [
        {"study": "A", "estimate": "-6.1", "conf_low": "1.0", "conf_high": "11.16"},
        {"study": "B", "estimate": "-4.0", "std_error": "1.69", "conf_low": "-7.31", "conf_high": "-0.64"},
        {"study": "C", "estimate": "0.49", "conf_low": "0.29", "conf_high": "0.84", "p_value": ".03", "scale": "HR"},
    ]
)
ks.audit(lines).to_frame()[["study", "check", "printed", "implied", "severity"]]

# %% [markdown]
# Line B is consistent and gives nothing. Whole tables can be checked at once; the adverse-event tables that come with
# kapstats hold together:

# %%
events = ks.evidence.table("adverse_events").rename(columns={"pct": "percent"})
ks.audit(events[["study", "arm", "term", "period", "events", "n", "percent"]]).meta["sentence"]

# %% [markdown]
# ## 2. How was it made?
#
# Five intervals of the TRANSFORM benefit-risk paper, none with its method: each is printed by one method alone.

# %%
cases = {
    (60, 111, 42, 108): ("2.11", "28.22"),
    (52, 98, 42, 108): ("0.68", "27.67"),
    (70, 101, 52, 100): ("4.01", "30.60"),
    (41, 343, 8, 222): ("4.13", "12.57"),
    (35, 343, 3, 222): ("5.31", "12.40"),
}
{limits: ks.fingerprint(*counts, printed=limits)["method"].tolist() for counts, limits in cases.items()}

# %% [markdown]
# Counts need not be printed: a percentage and its denominator will do. One decimal does not always single out a method.

# %%
ks.fingerprint("55.4%", 195, "41.2%", 170, printed=("3.9", "24.2"))

# %% [markdown]
# ## 3. Can it be reproduced?

# %%
result = ks.gallery.run("takahashi-2021")
result

# %%
result.figure

# %%
every = ks.gallery.run_all()
every.groupby(["name", "kind"])["agrees"].agg(["sum", "size"]).rename(columns={"sum": "agree", "size": "lines"})

# %% [markdown]
# ## 4. What does it add up to?
#
# Dissociation in three trials of intranasal esketamine. Double zeros, corrections and studies left out are always said.

# %%
rows = events[events["term"].eq("Dissociation") & events["events"].notna()]
active = rows[rows["arm"].str.contains("esketamine")].groupby("study")[["events", "n"]].sum()
control = rows[rows["arm"].str.contains("placebo")].groupby("study")[["events", "n"]].sum()
trials = active.join(control, lsuffix="1", rsuffix="2").dropna().reset_index()
trials = trials.rename(columns={"events1": "x1", "events2": "x2"})
trials = trials[trials["study"].isin(["fedgchin2019", "daly2019", "ionescu2021"])]
pooled = ks.meta_analysis(trials, measure="RD", model="reml", ci="hartung-knapp-adhoc")
pooled

# %%
pooled.plot()

# %% [markdown]
# These trials share one route. Across routes the same arithmetic would mislead: no randomised comparison of routes at
# psychiatric doses was found in print, so a table by route across trials compares doses, drugs and ways of asking as
# much as routes. Contrasts within trials, against their own control, are what can be pooled.

# %%
ks.gallery.run("side-effects-by-route").figure

# %% [markdown]
# Each trial stands beside its own control, and ECT is no placebo: headache is rarer with ketamine than with ECT, and
# that says nothing about routes. Rare events are pooled from the counts themselves; a study without any event has a say
# in the beta-binomial model only:

# %%
rare = pd.DataFrame(
    {"study": list("ABCDE"), "x1": [1, 0, 4, 0, 2], "n1": [50, 42, 110, 30, 76], "x2": [0, 0, 1, 0, 1]}
).assign(n2=[48, 42, 112, 31, 70])
models = ["mantel-haenszel", "peto", "glmm", "glmm-fixed-levels", "beta-binomial"]
by_model = {m: ks.meta_analysis(rare, "OR", m) for m in models}
pd.DataFrame({m: {**r.to_frame().iloc[0][["estimate", "std_error"]], "k": r.meta["k"]} for m, r in by_model.items()}).T

# %% [markdown]
# ## 5. And the curve?
#
# A survival curve with its at-risk table gives back individual times. Here the curve of a simulated trial, so that the
# answer is known:

# %%
trial = ks.datasets.load("kap-parallel")
relapse = trial.adtte[trial.adtte["PARAMCD"].eq("RELAPSE")]
curve = ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ 1", relapse).to_frame()
times = range(0, int(relapse["AVAL"].max()), 30)
at_risk = pd.DataFrame({"time": times, "n_risk": [int((relapse["AVAL"] >= t).sum()) for t in times]})
again = ks.reconstruct_ipd(curve[["time", "estimate"]], at_risk, total_events=int((relapse["CNSR"] == 0).sum()))
again.meta["sentence"], len(relapse), int((relapse["CNSR"] == 0).sum())

# %% [markdown]
# ## 6. One file to attach
#
# Findings, methods and reproductions on one page that loads nothing, and as csv:

# %%
import tempfile
from pathlib import Path

from kapstats.evidence.pack import write_pack

elekt = ks.fingerprint("55.4%", 195, "41.2%", 170, printed=("3.9", "24.2"))
page = Path(tempfile.mkdtemp()) / "pack.html"
write_pack(page, audit=findings, fingerprints={"ELEKT-D": elekt}, reproductions=[ks.gallery.run("elekt-d")])
sorted(p.name for p in page.parent.iterdir())
