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
# # What if the people who left did worse?
#
# For the reviewer, and for whoever has to answer one. The primary analysis assumes that outcomes are missing at
# random. A reviewer asks what is left of the effect when people who stopped lost it. Here is the answer for a
# simulated trial of five routes of ketamine, whose truth is known.

# %%
import matplotlib.pyplot as plt
import pandas as pd

import kapstats as ks

trial = ks.datasets.load("kap-parallel")
scores = trial.adqs[trial.adqs["AVISITN"] > 0]
patterns = ks.missing_patterns(trial)
print(patterns.meta["sentence"])
patterns.plot()
plt.show()

# %% [markdown]
# Who was seen when is half of the question; why they left is the other half.

# %%
ks.dropout_reasons(trial, trial.adsl).plot()
plt.show()

# %% [markdown]
# ## The primary analysis
#
# An MMRM uses every score that was seen, and is right when what is missing depends on what was seen.

# %%
model = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
fit = ks.mmrm(model, scores)
primary = fit.lsmeans("TRT01P", by="AVISIT").contrast("trt.vs.ctrl")
primary.filter(AVISIT="Day 28")

# %% [markdown]
# ## Five stories about those who left
#
# From "they went on like the others of their arm" (MAR) to "the effect was gone at once" (jump to reference).
# Nothing is random here: conditional means, and the jackknife for the standard error.

# %%
rows = []
for strategy in ("MAR", "LMCF", "CIR", "CR", "J2R"):
    imputed = ks.impute(scores, formula=model, arm="TRT01P", reference="Placebo", strategy=strategy)
    found = imputed.analyse("TRT01P + BASE").filter(quantity="difference", AVISIT="Day 28")
    rows.append(found.frame.assign(strategy=strategy))
stories = pd.concat(rows, ignore_index=True)
stories.pivot_table(index="contrast", columns="strategy", values="estimate", sort=False).round(2)

# %% [markdown]
# ## How much worse would they have to be?
#
# The values imputed in the IV arm are made worse step by step until the interval holds zero.

# %%
iv = scores[scores["TRT01P"].isin(["Placebo", "KAP IV"])]
imputed = ks.impute(iv, formula=model, arm="TRT01P", reference="Placebo", strategy="J2R")
tipping = ks.tipping_point(imputed, [0, 5, 10, 20, 40, 60])
ax = tipping.plot(xlabel="points of MADRS added to every imputed value of KAP IV",
                  ylabel="Difference in MADRS, day 28")  # fmt: skip
ax.set_title(f"n = {iv['USUBJID'].nunique()}; jump to reference, then worse")
plt.show()
print(
    f"first delta that tips: {tipping.meta['tipping_point']:g}; the limit passes zero at {tipping.meta['crossing']:.1f}"
)

# %% [markdown]
# Both arms may have been misjudged: a grid of amounts. Grey cells are those in which the interval holds zero.

# %%
grid = ks.tipping_point(imputed, [0, 10, 20, 30, 40, 50], reference_deltas=[-20, -10, 0, 10, 20])
grid.plot()
plt.show()

# %% [markdown]
# ## What counts when treatment was stopped?
#
# The intercurrent events are read from ADSL, and the estimand says what each means. Here people who stopped for lack
# of efficacy or an adverse event are back at baseline, and the others are treated as if they had gone on.

# %%
events = ks.intercurrent_events(trial)
question = ks.Estimand(
    "KAP against placebo", "all randomised", "change of MADRS at day 28",
    {"ADVERSE EVENT": "composite", "LACK OF EFFICACY": "composite",
     "LOST TO FOLLOW-UP": "hypothetical", "WITHDRAWAL BY SUBJECT": "hypothetical"},
)  # fmt: skip
rows = question.apply(trial, events)
composite = ks.mmrm(model, rows[rows["AVISITN"] > 0]).lsmeans("TRT01P", by="AVISIT").contrast("trt.vs.ctrl")
print(composite.meta["estimand"])
composite.filter(AVISIT="Day 28")

# %% [markdown]
# Or the question may be about those alone who would not stop under ketamine: a principal stratum. Who they are in the
# placebo arm is not seen, only predicted from baseline, and the assumption that this is enough cannot be tested.

# %%
people = trial.adsl[trial.adsl["TRT01P"].isin(["Placebo", "KAP IV"])][["USUBJID", "TRT01P", "EOSSTT", "MADRSBL"]].merge(
    iv.loc[iv["AVISIT"] == "Day 28", ["USUBJID", "CHG"]], on="USUBJID", how="left"
)
people = people.assign(STOPPED=people["EOSSTT"] != "COMPLETED")
ks.principal_effect(people, "CHG", arm="TRT01P", event="STOPPED", covariates="MADRSBL", reference="Placebo")

# %% [markdown]
# ## Two variances
#
# Rubin's rules after Bayesian draws, and the jackknife, answer different questions; under jump to reference the
# first is the larger one.

# %%
drawn = ks.impute(iv, formula=model, arm="TRT01P", reference="Placebo", strategy="J2R", method="bayes", draws=100)
last = {"quantity": "difference", "AVISIT": "Day 28"}
both = {"jackknife": imputed, "Rubin": drawn}
rows = {name: result.analyse("TRT01P + BASE").filter(**last).frame.iloc[0] for name, result in both.items()}
pd.DataFrame(rows).T[["estimate", "std_error"]].astype(float).round(2)

# %% [markdown]
# ## When did the effect start, and did it last?

# %%
ks.separation(primary, "AVISIT")

# %%
ks.onset_curve(primary.filter(contrast="KAP IV - Placebo"), [1, 7, 14, 21, 28])

# %%
responded = ks.time_to_response(trial)
ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ TRT01P", responded).median()

# %% [markdown]
# ## When nearly everybody is lost
#
# A clinic registers 1000 people and sees 100 again, 62 of them better. "62% respond" assumes that the other 900 are the
# same. Without that assumption the answer is a range, and an interval that covers it whatever they did.

# %%
ks.response_bounds(62, 100, 1000)

# %% [markdown]
# ## The answer

# %%
before = primary.filter(AVISIT="Day 28", contrast="KAP IV - Placebo").frame.iloc[0]
after = stories.query("strategy == 'J2R' and contrast == 'KAP IV - Placebo'").iloc[0]
print(
    f"""Intravenous ketamine, MADRS at day 28: {before.estimate:.1f} points if what is missing is missing at random,
{after.estimate:.1f} ({after.conf_low:.1f} to {after.conf_high:.1f}) if everybody who left lost the effect at once.
The claim falls only when those who left did {tipping.meta["crossing"]:.0f} points worse than even that."""
)
