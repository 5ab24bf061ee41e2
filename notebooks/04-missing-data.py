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
# The primary analysis assumes that outcomes are missing at random. A reviewer asks what is left of the effect when
# people who stopped lost it. Here is the answer for a simulated trial of five routes of ketamine, whose truth is known.

# %%
import matplotlib.pyplot as plt
import pandas as pd

import kapstats as ks

trial = ks.datasets.load("kap-parallel")
scores = trial.adqs[trial.adqs["AVISITN"] > 0]
visits = scores.groupby(["TRT01P", "AVISIT"], observed=True, sort=False)["USUBJID"].nunique()
print(visits.unstack("AVISIT").loc[list(trial.arms)].to_string())

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
print(stories.pivot_table(index="contrast", columns="strategy", values="estimate", sort=False).round(2).to_string())

# %% [markdown]
# ## How much worse would they have to be?
#
# The values imputed in the IV arm are made worse step by step until the interval holds zero.

# %%
iv = scores[scores["TRT01P"].isin(["Placebo", "KAP IV"])]
imputed = ks.impute(iv, formula=model, arm="TRT01P", reference="Placebo", strategy="J2R")
tipping = ks.tipping_point(imputed, [0, 5, 10, 20, 40, 60])
figure, ax = plt.subplots(figsize=(7, 4))
shown = tipping.frame
ax.fill_between(shown["delta"], shown["conf_low"], shown["conf_high"], alpha=0.2, label="95% CI (jackknife)")
ax.plot(shown["delta"], shown["estimate"], marker="o", label="KAP IV - Placebo, day 28")
ax.axhline(0, color="black", linewidth=0.8)
ax.set_xlabel("points of MADRS added to every imputed value of KAP IV")
ax.set_ylabel("difference in change of MADRS, points")
ax.set_title(f"n = {iv['USUBJID'].nunique()}; jump to reference, then worse")
ax.legend()
plt.show()
print("tips at", tipping.meta["tipping_point"])

# %% [markdown]
# ## Two variances
#
# Rubin's rules after Bayesian draws, and the jackknife, answer different questions; under jump to reference the
# first is the larger one.

# %%
drawn = ks.impute(iv, formula=model, arm="TRT01P", reference="Placebo", strategy="J2R", method="bayes", draws=100)
last = {"quantity": "difference", "AVISIT": "Day 28"}
for name, result in (("jackknife", imputed), ("Rubin", drawn)):
    row = result.analyse("TRT01P + BASE").filter(**last).frame.iloc[0]
    print(f"{name:10s} {row['estimate']:6.2f} (SE {row['std_error']:.2f})")

# %% [markdown]
# ## When did the effect start, and did it last?

# %%
print(ks.separation(primary, "AVISIT"))
print(ks.onset_curve(primary.filter(contrast="KAP IV - Placebo"), [1, 7, 14, 21, 28]))
