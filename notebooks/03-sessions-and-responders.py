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
# # Does the therapist matter, do sessions wear off, who responds?
#
# For the researcher whose data have levels. In
# ketamine-assisted psychotherapy patients share therapists, therapists share sites, and every patient has several
# sessions. This page analyses that structure on a simulated trial whose true effects are known: how much therapists
# matter, whether acute effects fade over sessions, who responds, and what one patient may expect.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.errors import KapstatsWarning
from kapstats.response.crossover import crossover

trial = ks.datasets.load("kap-parallel")
patients = trial.adsl[["USUBJID", "THERAPID"]].assign(THERAPIST=trial.adsl["SITEID"] + trial.adsl["THERAPID"])
scores = trial.adqs[trial.adqs["AVISITN"] > 0].merge(patients[["USUBJID", "THERAPIST"]], on="USUBJID")
scores = scores.assign(WEEK=scores["AVISITN"] / 7)
scores[["USUBJID", "THERAPIST", "SITEID", "TRT01P", "WEEK", "BASE", "CHG"]].head().set_index("USUBJID").round(2)

# %% [markdown]
# ## How much do therapists matter?
#
# Random intercepts for sites, therapists and patients, and a random slope over weeks for each patient. Small numbers of
# therapists are the reason for Kenward-Roger degrees of freedom. A fit on the boundary is said, not hidden.

# %%
model = "CHG ~ BASE + TRT01P*WEEK + (WEEK | USUBJID) + (1 | THERAPIST) + (1 | SITEID)"
fit = ks.lmm(model, scores)
fit.variance_components

# %%
fit.icc()

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore", KapstatsWarning)
    without = ks.lmm(model.replace(" + (1 | THERAPIST)", ""), scores)
fit.lrt(without)

# %% [markdown]
# The test of a variance lies on the boundary, so its reference is a mixture of chi-square distributions.
#
# ## The treatment effect at four weeks

# %%
at_four = fit.lsmeans("TRT01P", at={"WEEK": 4}).contrast("trt.vs.ctrl", adjust="dunnett")
at_four

# %%
ax = at_four.plot()

# %% [markdown]
# ## The same question with other degrees of freedom
#
# Nothing is refitted: the method is chosen when asking. The normal reference has the shortest intervals, and with six
# or twelve clusters it does not hold its level.

# %%
rows = []
for method in ("kenward-roger", "satterthwaite", "normal"):
    asked = fit.lsmeans("TRT01P", at={"WEEK": 4}, df=method).contrast("trt.vs.ctrl").to_frame().iloc[0]
    rows.append({"method": method, **asked[["estimate", "std_error", "df", "conf_low", "conf_high"]]})
pd.DataFrame(rows).set_index("method").round(3)

# %% [markdown]
# ## Do acute effects fade over sessions?
#
# Dissociation 40 minutes after dosing, sessions 1 and 4, with patients as random effects.

# %%
acute = trial.advs[(trial.advs["PARAMCD"] == "CADSS") & (trial.advs["ATPTN"] == 40)]
fade = ks.lmm("CHG ~ TRT01A*factor(SESSION) + (1 | USUBJID)", acute)
fade.lsmeans("SESSION", by="TRT01A").contrast("trt.vs.ctrl")

# %%
fade.anova()

# %% [markdown]
# ## Who responds?
#
# Response is a fall of at least half of the baseline score. The model's coefficients are conditional on the patient;
# the population-averaged risk differences standardise over the patients and integrate over the random effects.

# %%
responders = scores.assign(RESPONDER=(scores["CHG"] <= -0.5 * scores["BASE"]).astype(int))
glmm = ks.glmm(
    "RESPONDER ~ scale_base + TRT01P + AVISIT + (1 | USUBJID)",
    responders.assign(scale_base=(responders["BASE"] - 33) / 5),
    family="binomial",
    quadrature=15,
)
glmm

# %%
glmm.marginal_means("TRT01P", at={"AVISIT": "Day 28"}).contrast("trt.vs.ctrl", adjust="holm")

# %%
conditional = glmm.lsmeans("TRT01P").contrast("trt.vs.ctrl").exponentiate().to_frame()
marginal = glmm.marginal_means("TRT01P", scale="logit").contrast("trt.vs.ctrl").exponentiate().to_frame()
pd.DataFrame(
    {
        "conditional OR": conditional["estimate"].to_numpy(),
        "marginal OR": marginal["estimate"].to_numpy(),
    },
    index=conditional["contrast"],
).round(2)

# %% [markdown]
# The marginal odds ratios are nearer to one: not a contradiction, but two questions. Generalised estimating equations
# ask the second one directly, without random effects, and correct their robust standard errors for few clusters:

# %%
populations = ks.gee("RESPONDER ~ BASE + TRT01P + AVISIT + cluster(USUBJID)", responders)
populations.lsmeans("TRT01P").contrast("trt.vs.ctrl").exponentiate()

# %% [markdown]
# ## Counts per session
#
# Adverse events per patient and session, Poisson against negative binomial.

# %%
events = trial.adae[trial.adae["TRTEMFL"] == "Y"].groupby(["USUBJID", "SESSION"]).size().rename("EVENTS")
doses = trial.adex[["USUBJID", "SESSION", "TRT01A", "TRT01AN"]].drop_duplicates(["USUBJID", "SESSION"])
table = doses.merge(events.reset_index(), on=["USUBJID", "SESSION"], how="left").fillna({"EVENTS": 0})
poisson = ks.glmm("EVENTS ~ TRT01A + SESSION + (1 | USUBJID)", table, family="poisson")
poisson.lsmeans("TRT01A").contrast("trt.vs.ctrl").exponentiate()

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", KapstatsWarning)
    negative = ks.glmm("EVENTS ~ TRT01A + SESSION + (1 | USUBJID)", table, family="negative-binomial")
pd.DataFrame(
    {"AIC": [poisson.aic, negative.aic], "size": [np.inf, negative.size]}, index=["Poisson", "negative binomial"]
)

# %% [markdown]
# ## What may one patient expect?
#
# The predicted course of three patients (line), with 95% intervals for their own mean (dark) and for a new observation
# (light); dots are the scores seen, n says how many. Random effects
# are shrunken: a patient with few visits is drawn towards the mean, and the interval says how little is known.

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
counts = scores.dropna(subset=["CHG"]).groupby("USUBJID").size()
chosen = [counts[counts == n].index[0] for n in (1, 3, 5)]
for ax, who in zip(axes, chosen, strict=True):
    own = scores[scores["USUBJID"] == who]
    first = own.iloc[:1].drop(columns=["WEEK", "CHG"])
    new = pd.concat([first.assign(WEEK=w) for w in np.linspace(0.14, 4, 20)], ignore_index=True)
    mean, wide = fit.predict(new, interval="confidence"), fit.predict(new, interval="prediction")
    ax.fill_between(new["WEEK"], wide["conf_low"], wide["conf_high"], color="0.9", lw=0)
    ax.fill_between(new["WEEK"], mean["conf_low"], mean["conf_high"], color="0.75", lw=0)
    ax.plot(new["WEEK"], mean["estimate"], color="0.2")
    ax.plot(own["WEEK"], own["CHG"], "o", color="tab:blue")
    ax.set(title=f"{own['TRT01P'].iloc[0]}, n = {own['CHG'].notna().sum()}", xlabel="Week")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="Change in MADRS, points")
plt.show()

# %% [markdown]
# ## Does severity at baseline change the effect?

# %%
modified = ks.lmm("CHG ~ BASE*TRT01P + factor(AVISITN) + (1 | USUBJID) + (1 | THERAPIST)", scores)
modified.anova()

# %% [markdown]
# ## A crossover trial
#
# Treatment within patients, with the carry-over test beside it and the first period alone. The test of carry-over is
# weak; when a drug's effect outlasts the wash-out, the first period is the safer answer.

# %%
cross = ks.datasets.load("kap-crossover").adqs
peak = cross[cross["AVISITN"].isin([7, 28])]
order = {"TRTP": ["Midazolam", "Ketamine"]}
result = crossover(
    peak, response="CHG", subject="USUBJID", period="APERIOD", treatment="TRTP", covariates=("BASE",), order=order
)
pd.concat(
    [
        result.treatment().to_frame().assign(analysis="both periods"),
        result.first_period().to_frame().assign(analysis="first"),
    ]
).set_index("analysis")[["contrast", "estimate", "conf_low", "conf_high", "p_value"]].round(3)

# %%
result.tests()

# %%
print(fit.explain())

# %% [markdown]
# ## The answers

# %%
shares = fit.icc().to_frame().set_index("group")["estimate"]
faded = fade.lsmeans("SESSION", by="TRT01A").contrast("trt.vs.ctrl").to_frame().set_index("TRT01A")
more = glmm.marginal_means("TRT01P", at={"AVISIT": "Day 28"}).contrast("trt.vs.ctrl").to_frame().set_index("contrast")
print(
    f"""therapists: {100 * shares["THERAPIST"]:.0f}% of the variance of the scores lies between them
sessions:   dissociation after intravenous ketamine is {-faded.estimate["KAP IV"]:.1f} points lower in the fourth
responders: {100 * more.estimate["KAP IV - Placebo"]:.0f} more of 100 respond to intravenous ketamine than to placebo"""
)
