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
# # What did it do to them? Side effects by route
#
# Five routes of ketamine against placebo in a simulated trial. Who had which side effect, how sure can we be of the
# differences, when do they come and go, and which comparisons of routes mislead.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.safety import course, routes
from kapstats.safety.time_to_event import savvy

trial = ks.datasets.load("kap-parallel")
ae = ks.incidence(trial, by="ROUTE")
ae.table(min_percent=10)

# %% [markdown]
# Every subject counts once per row; the denominators are the subjects of the safety population, taken from ADSL. The
# footnote says which records counted and what orders the rows.
#
# ## Differences against placebo
#
# Each with a Miettinen-Nurminen interval, which exists for every table, also where nobody had the event.

# %%
ae.plot("dot")
plt.show()

# %%
compared = ae.compare(adjust="bh").filter(level="PT").to_frame()
compared.sort_values("p_value").head(8)

# %% [markdown]
# With thirty terms and five routes something will stand out by chance. Double FDR looks at body systems and at terms
# within them; the Bayesian model lets the terms of a system learn from each other.

# %%
signals = ks.safety_signals(ae, "double-fdr").to_frame()
signals[signals.signal].groupby("contrast").AEDECOD.agg(list)

# %%
ae.plot("volcano")
plt.show()

# %% [markdown]
# ## How harmful is that? Numbers needed to harm
#
# An interval of the difference that holds 0 becomes one through infinity.

# %%
dissociation = ae.compare().filter(AEDECOD="Dissociation")
routes.number_needed_to_harm(dissociation).to_frame()[["contrast", "estimate", "text"]]

# %% [markdown]
# ## When do they come, when do they go?

# %%
minutes = np.arange(0, 241, 10)
prevalence = ae.prevalence("Dissociation", minutes=minutes).to_frame()
figure, axes = plt.subplots(figsize=(7, 3.5))
for route, rows in prevalence.groupby("ROUTE", sort=False):
    axes.step(rows.time, 100 * rows.estimate, where="post", label=route.title())
axes.set(xlabel="Minutes since the first dose", ylabel="Dissociating now (%)")
axes.legend(frameon=False)
plt.show()

# %%
vitals = trial.advs.merge(trial.adsl[["USUBJID", "ROUTE"]], on="USUBJID")
cadss = course.acute_course(vitals, by="ROUTE", parameter="CADSS", band="simultaneous", order=list(ae.arms))
cadss.filter(quantity=["peak", "time of peak", "time above"])

# %% [markdown]
# Does it fade with repeated sessions? The denominators are those who were dosed in that session.

# %%
fading = course.attenuation(ae, "Dissociation").to_frame()
fading.pivot(index="SESSION", columns="ROUTE", values="estimate").round(2)[list(ae.arms)]

# %% [markdown]
# ## The probability of a first headache, five ways
#
# The crude proportion forgets who left early; 1 - Kaplan-Meier pretends that nobody leaves for other reasons.
# Aalen-Johansen, the default, does neither.

# %%
savvy(ae, "Headache", competing="discontinuation").to_frame().pivot(index="ROUTE", columns="method", values="estimate")

# %% [markdown]
# ## A comparison of routes that misleads
#
# A registry in which the route does nothing, but anxious patients are given the nasal route more often, and anxious
# patients have more nausea whatever they are given.

# %%
generator = np.random.default_rng(11)
n = 4000
anxious = generator.random(n) < 0.5
nasal = generator.random(n) < np.where(anxious, 0.8, 0.2)
nausea = generator.random(n) < np.where(anxious, 0.5, 0.15)
registry = pd.DataFrame({"USUBJID": np.arange(n), "ANXIOUS": np.where(anxious, "Y", "N"), "SAFFL": "Y"})
registry["ROUTE"] = pd.Categorical(np.where(nasal, "NASAL", "ORAL"), categories=["ORAL", "NASAL"])
events = pd.DataFrame({"USUBJID": registry.USUBJID[nausea], "AEDECOD": "Nausea", "TRTEMFL": "Y"})
pooled = ks.incidence(events, registry, by="ROUTE", terms=["AEDECOD"])
pooled.compare().filter(level="PT")

# %% [markdown]
# The table says: nasal, 20 points more nausea. Compared within anxious and within other patients, nothing is left, and
# the library says so; weighting by the propensity finds the same.

# %%
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    both = routes.crude_and_stratified(pooled, "ANXIOUS").filter(level="PT").to_frame()
print(caught[0].message)
both[["contrast", "crude", "estimate", "conf_low", "conf_high", "misleading"]]

# %%
weighted = routes.propensity_weighted(pooled, ["ANXIOUS"], terms=["Nausea"])
weighted.estimates.to_frame()[["term", "contrast", "crude", "estimate", "conf_low", "conf_high"]]

# %%
weighted.balance
