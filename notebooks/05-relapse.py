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
# # Relapse: curves, tests, hazard ratios, and the answer without proportional hazards
#
# For the researcher: how long do people stay well after they have responded, and does the route matter? The data are a
# synthetic six-arm trial, so the true answers are known and stand beside the estimates. (Relapse that is found at
# visits, competing reasons for leaving, repeated relapse and interim looks are in the next notebook.)

# %%
import matplotlib.pyplot as plt
import pandas as pd

import kapstats as ks

trial = ks.datasets.load("kap-parallel")
relapse = trial.adtte
two = relapse[relapse["TRT01P"].isin(["Placebo", "KAP IV"])]
relapse[["USUBJID", "TRT01P", "AVAL", "CNSR", "EVNTDESC"]].head().set_index("USUBJID")

# %% [markdown]
# ## Curves with numbers at risk
#
# In ADaM `CNSR` 0 is the event, so the formula says `CNSR == 0`; a bare `CNSR` is refused. Limits are on the log-log
# scale (as SAS); `convention="R"` gives R's.

# %%
km = ks.kaplan_meier("Surv(AVAL, CNSR == 0) ~ TRT01P", two)
km.plot()
plt.show()
km.median()

# %%
km.at_risk([0, 14, 28, 42, 56])

# %% [markdown]
# Every plotted number is a table. Survival at a milestone, and the difference of medians by inverting a test:

# %%
km.milestone([28, 56])

# %%
km.median_difference()

# %% [markdown]
# ## Tests
#
# The log-rank test is best when hazards are proportional; max-combo takes the best of four weights and pays for the
# choice.

# %%
asked = {"log-rank": {}, "Fleming-Harrington (0, 1)": {"gamma": 1}, "max-combo": {"weights": "max-combo"}}
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
tests = {name: ks.logrank(formula, two, **how).to_frame().iloc[0] for name, how in asked.items()}
pd.DataFrame(tests).T[["statistic", "p_value"]].astype(float).round(3)

# %% [markdown]
# ## Hazard ratios
#
# Beside every hazard ratio stands the test of proportional hazards (`zph_p`).

# %%
fit = ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", relapse)
fit

# %%
truth = pd.DataFrame(trial.truth["hazard_ratio"])[["TRT01P", "value"]]
found = fit.hazard_ratios().to_frame()[["term", "estimate", "conf_low", "conf_high"]]
found = found.assign(TRT01P=found["term"].str.removeprefix("TRT01P")).merge(truth, on="TRT01P").drop(columns="term")
found.rename(columns={"value": "true hazard ratio"}).set_index("TRT01P").round(2)

# %% [markdown]
# One hazard ratio for the first four weeks and another after them:

# %%
ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", two, time_varying={"TRT01P": [28]}).hazard_ratios()

# %% [markdown]
# With few events the likelihood is not a parabola: profile limits and Firth's penalty.

# %%
pd.concat(
    {
        "Wald": ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", two).hazard_ratios().to_frame(),
        "profile": ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", two, conf="profile").hazard_ratios().to_frame(),
        "Firth": ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", two, penalty="firth").hazard_ratios().to_frame(),
    }
).droplevel(1)[["estimate", "conf_low", "conf_high"]].round(3)

# %% [markdown]
# ## The answer in days
#
# The restricted mean needs no proportional hazards: days without relapse up to day 77.

# %%
gained = ks.rmst("Surv(AVAL, CNSR == 0) ~ TRT01P", relapse, tau=77)
gained

# %%
true_days = pd.DataFrame(trial.truth["rmst_difference"]).query("tau == 77")[["contrast", "value"]]
gained.filter(quantity="difference").to_frame()[["contrast", "estimate", "conf_low", "conf_high"]].merge(
    true_days, on="contrast"
).rename(columns={"value": "true difference (days)"}).set_index("contrast").round(1)

# %% [markdown]
# Or pair by pair: every treated subject against every control. The win ratio takes outcomes in order of importance;
# what censoring leaves open stays a tie, so its estimand rests on the length of follow-up, as the restricted mean's.

# %%
wins = ks.win_ratio("Surv(AVAL, CNSR == 0) ~ TRT01P", relapse)
wins.filter(quantity="net benefit")

# %% [markdown]
# ## What the model says about everybody
#
# Survival if everybody had been given each treatment in turn (g-formula), with a standard error that counts the
# sampling of the covariates.

# %%
adjusted = fit.adjusted_survival("TRT01P", [28, 56])
adjusted.differences

# %%
print(fit.explain())

# %% [markdown]
# ## The answer

# %%
ratio = fit.hazard_ratios().to_frame().set_index("term").loc["TRT01PKAP IV"]
days = gained.filter(quantity="difference", contrast="KAP IV - Placebo").frame.iloc[0]
print(
    f"""Intravenous ketamine against placebo, {len(two)} responders:
hazard ratio {ratio.estimate:.2f} ({ratio.conf_low:.2f} to {ratio.conf_high:.2f}),
{days.estimate:.0f} more days without relapse in 77 ({days.conf_low:.0f} to {days.conf_high:.0f}).
The data allow a large gain and none at all:
a trial of this size has too few relapses for the question."""
)
