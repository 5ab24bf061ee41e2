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
# A reviewer has no data, only a table. This notebook takes printed tables of ketamine trials and asks whether the
# numbers can be right, how they were made, whether they can be made again, and what they add up to.

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
findings.to_frame().set_index("study")[["arm", "check", "printed", "implied", "severity"]].round(1)

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
ks.audit(lines).to_frame().set_index("study")[["check", "printed", "implied", "severity"]].round(3)

# %% [markdown]
# Line B is consistent and gives nothing. Whole tables can be checked at once; the adverse-event tables that come with
# kapstats hold together:

# %%
events = ks.evidence.table("adverse_events").rename(columns={"pct": "percent"})
print(ks.audit(events[["study", "arm", "term", "period", "events", "n", "percent"]]).meta["sentence"])

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
for counts, limits in cases.items():
    found = ks.fingerprint(*counts, printed=limits)["method"].tolist()
    print(f"{counts[0]}/{counts[1]} against {counts[2]}/{counts[3]}, printed {' to '.join(limits)}: {', '.join(found)}")

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
table = every.groupby(["kind"])["agrees"].agg(["sum", "size"]).rename(columns={"sum": "agree", "size": "lines"})
table["results"] = every.groupby("kind")["name"].nunique()
table

# %% [markdown]
# Lines of the kind "exact" have to agree to the printed digit, and do. A "calibration" is reproduced from figures or
# summaries alone, a "misprint" is a number that its own paper contradicts; both are shown and explained, not counted as
# agreement.

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
ax = pooled.plot()

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
rows = {m: {**r.to_frame().iloc[0][["estimate", "std_error"]], "k": r.meta["k"]} for m, r in by_model.items()}
pd.DataFrame(rows).T.rename(columns={"estimate": "log odds ratio", "std_error": "SE", "k": "studies used"}).round(3)

# %% [markdown]
# Does the effect change with the dose, from trial to trial? Meta-regression asks; with invented numbers of four trials,
# whose slope is one point per 0.25 mg/kg:

# %%
doses = {"estimate": [-1.2, -1.9, -3.1, -3.9], "std_error": [0.6, 0.5, 0.5, 0.6], "dose": [0.25, 0.5, 0.75, 1.0]}
ks.meta_regression(doses, "~ dose")

# %% [markdown]
# And where no trial compares two routes, a network does so through their common placebo, if the trials are alike in all
# else. Here invented counts of remission; the contrast of IM with IV is read from the network, not from any trial:

# %%
network = pd.DataFrame(
    {
        "study": ["A", "A", "B", "B", "C", "C"],
        "treatment": ["IV", "placebo", "IM", "placebo", "IV", "placebo"],
        "x": [18, 8, 15, 7, 22, 11],
        "n": [40, 40, 38, 39, 50, 52],
    }
)
ks.network_meta_analysis(network, "OR", reference="placebo", model="common")

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
print(f"reconstructed: {again.meta['sentence']}")
print(f"in truth: {len(relapse)} patients, {int((relapse['CNSR'] == 0).sum())} events")

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
print(*sorted(p.name for p in page.parent.iterdir()))

# %% [markdown]
# ## The answers

# %%
exact = every[every["kind"] == "exact"]
share = pooled.to_frame().iloc[0]
print(
    f"""right?       {len(findings.to_frame())} of {len(printed)} printed lines contradict themselves
made how?    five intervals of the TRANSFORM paper by Wald's formula and by no other
again?       {int(exact["agrees"].sum())} of {len(exact)} numbers that can be checked to the digit are made again
adds up to?  dissociation {100 * share.estimate:.0f} points more often under esketamine than under placebo
             (95% limits {100 * share.conf_low:.0f} to {100 * share.conf_high:.0f})"""
)
