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
# # A first look: did people respond, did they relapse, what did it do to them?
#
# For everybody: start here. The three questions of every trial, each with one model, one table and one figure.
#
# Five routes of ketamine with psychotherapy against placebo with psychotherapy. The trial is simulated, so the true
# answer to every question is known, and each estimate can be held against it.

# %%
import kapstats as ks

trial = ks.datasets.load("kap-parallel")
trial

# %% [markdown]
# The arms stand in the order that the data state (TRT01PN), placebo first. Is anything wrong with the data?

# %%
print(trial.check().meta["sentence"])

# %% [markdown]
# ## Did people respond?
#
# MADRS was scored on days 1, 7, 14, 21 and 28; lower is better. A mixed model for repeated measures uses every score
# that was observed. One line says the whole model: fixed effects, and for every person an unstructured covariance
# over visits.

# %%
scores = trial.adqs.query("ANL01FL == 'Y'")
fit = ks.mmrm("CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)", scores)
means = fit.lsmeans("TRT01P", by="AVISIT")
ax = means.plot(ylabel="Change in MADRS, points")

# %% [markdown]
# Against placebo, with p values adjusted for five comparisons at each visit:

# %%
differences = means.contrast("trt.vs.ctrl", ref="Placebo", adjust="dunnett")
differences.filter(AVISIT="Day 28")

# %% [markdown]
# And the truth? It comes with the trial:

# %%
truth = {
    row["contrast"]: row["value"]
    for row in trial.truth["mean_difference"]
    if row["AVISIT"] == "Day 28" and row["strategy"] == "hypothetical"
}
last = differences.filter(AVISIT="Day 28").to_frame()
last["truth"] = last["contrast"].map(truth)
last["inside"] = last["truth"].between(last["conf_low"], last["conf_high"])
last.set_index("contrast")[["estimate", "conf_low", "conf_high", "truth", "inside"]].round(1)

# %% [markdown]
# What would go into the paper:

# %%
print(fit.explain())

# %% [markdown]
# ## Did they relapse?
#
# Those who responded were followed for twelve weeks. In ADaM data `CNSR` 0 is the event, and the formula says so.

# %%
relapse = trial.adtte.query("PARAMCD == 'RELAPSE'")
curves = ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ TRT01P", relapse)
ax = curves.plot(risk_table=True, ylabel="Free of relapse")

# %%
ks.logrank("Surv(AVAL, CNSR == 0) ~ TRT01P", relapse)

# %%
cox = ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", relapse)
cox.hazard_ratios()

# %% [markdown]
# A hazard ratio means little when hazards are not proportional; the test stands beside it. With some twenty people per
# arm the intervals are wide: this trial cannot tell the routes apart in relapse, although they differ in truth.

# %%
cox.zph()

# %% [markdown]
# ## What did it do to them?
#
# Everybody is counted once per event; the denominators are all people treated by that route, not only those who had
# an event.

# %%
events = ks.incidence(trial, by="ROUTE", reference="PLACEBO")
events.table(min_percent=20)

# %%
ax = events.plot("dot", limit=8)

# %% [markdown]
# Risk differences with score intervals, which hold where nobody had the event:

# %%
risk = events.compare(method="miettinen-nurminen")
dissociation = risk.filter(AEDECOD="Dissociation").to_frame().set_index("contrast")
dissociation[["x1", "n1", "estimate", "conf_low", "conf_high"]].round(3)

# %% [markdown]
# ## All of it at once
#
# A plan is a small text file, and `kapstats run` turns it into a report with these tables and figures. The plan of this
# trial asks for:

# %%
from kapstats.pipeline.plan import read

for analysis in read("kap-parallel").analyses:
    print(f"{analysis.question:9} {analysis.title}")

# %% [markdown]
# ## The answers

# %%
iv = last.set_index("contrast").loc["KAP IV - Placebo"]
ratio = cox.hazard_ratios().to_frame().set_index("term").loc["TRT01PKAP IV"]
harm = dissociation.loc["INTRAVENOUS - PLACEBO"]
print(
    f"""Intravenous ketamine against placebo (n = 40 and 40; limits 95%, those of MADRS simultaneous over the routes):
respond      MADRS at day 28 {iv.estimate:.1f} points ({iv.conf_low:.1f} to {iv.conf_high:.1f}); in truth {iv.truth:.1f}
relapse      hazard ratio {ratio.estimate:.2f} ({ratio.conf_low:.2f} to {ratio.conf_high:.2f}): too few events to tell
side effects dissociation in {harm.x1:.0f} of {harm.n1:.0f}, {100 * harm.estimate:.1f} points more often """
    f"({100 * harm.conf_low:.1f} to {100 * harm.conf_high:.1f})"
)
