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
# # How many people does the next trial need?
#
# For the planner. A formula for the sample size knows nothing of dropout, of scores that are bounded, or of the
# model that will be fitted. Simulation does: draw trials in which the truth is known, analyse each as the plan says,
# count.
#
# The question here: intravenous ketamine with psychotherapy against placebo with psychotherapy, MADRS at day 28, MMRM
# with Kenward-Roger. What power do 40 to 160 people give, and does it survive more dropout?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

import kapstats as ks
from kapstats.simulation.scenario import load

whole = load("kap-parallel")
two = whole.change(name="plan-iv", arms=whole.arms[:2], relapse=None, adverse_events=None, course=None, dosing=None)
print(f"SD by visit {two.response.sd}; true effect {two.arms[1].effect} points")

# %% [markdown]
# ## Power over a grid
#
# One drawn trial is `ks.simulate(two, n=80, seed=7)`; `ks.certify` draws and analyses many, and returns the rejection
# rate (the power) with its Monte-Carlo error (`mcse`). A few hundred replicates are enough to plan with;
# pass `executor=8` (processes) or a Dask client for more.


# %%
def power(scenario, sizes, replicates=300, estimator="mmrm"):
    """Rejection at day 28 by number of subjects."""
    rows = []
    for n in sizes:
        frame = ks.certify(estimator, scenario, replicates=replicates, seed=7, n=n).to_frame()
        last = frame[frame["estimand"].str.contains("Day 28")].iloc[0]
        rows.append({"n": n, "power": last["rejection"], "mcse": last["rejection_mcse"], "se": last["empirical_se"],
                     "coverage": last["coverage"], "bias": last["bias"]})  # fmt: skip
    return pd.DataFrame(rows)


sizes = [40, 80, 120, 160]
planned = power(two, sizes)
planned.set_index("n").round(3)

# %% [markdown]
# ## The same with twice the dropout, and with less effect
#
# `Scenario.change` replaces fields of one component. Dropout that depends on what was seen costs precision; it does not
# bias the MMRM.

# %%
arms = two.arms
worse = two.change(dropout={"intercept": two.dropout.intercept + 1.2})
less = {"label": "KAP IV", "code": 1, "route": "INTRAVENOUS", "effect": -4.0, "leaving": 0.7}
weaker = two.change(arms=[arms[0], less])
plans = {"as planned": planned, "more dropout": power(worse, sizes), "effect 4 points": power(weaker, sizes)}
pd.concat({name: frame.set_index("n") for name, frame in plans.items()}, names=["plan"]).round(3)

# %%
figure, axis = plt.subplots(figsize=(6.4, 3.6))
for place, (name, frame) in enumerate(plans.items()):
    at = frame["n"] + 1.5 * (place - 1)  # beside each other, so that no bar hides another
    axis.errorbar(at, 100 * frame["power"], yerr=196 * frame["mcse"], marker="os^"[place], capsize=3, label=name)
axis.axhline(80, color="0.6", linewidth=0.8)
axis.set(xlabel="Subjects in all", ylabel="Power at day 28, % (95% Monte-Carlo interval)", ylim=(0, 100))
axis.spines[["top", "right"]].set_visible(False)
axis.set_xticks(sizes)
axis.legend(frameon=False, loc="upper left")
figure.tight_layout()

# %% [markdown]
# ## Is the test honest at that size?
#
# The null twin answers: in it no arm differs from placebo in anything, so every rejection is a false one.

# %%
null = ks.certify("mmrm", two.null(), replicates=200, seed=8, n=40).to_frame()
null["visit"] = null["estimand"].str.extract(r"(Day \d+)")
null.set_index("visit")[["rejection", "rejection_mcse", "coverage", "bias"]].round(3)

# %% [markdown]
# ## An analysis of one's own
#
# Anything that takes a trial and returns estimates can be planned with: here the difference of those who completed,
# with Wald limits. Its identifying columns (`contrast`, `AVISIT`) say which true value it is compared with.


# %%
def completers(trial):
    last = trial.adqs[trial.adqs["AVISITN"] == 28]
    active, control = (last.loc[last["TRT01P"] == arm, "CHG"] for arm in ("KAP IV", "Placebo"))
    error = (active.var() / len(active) + control.var() / len(control)) ** 0.5
    estimate = active.mean() - control.mean()
    return pd.DataFrame(
        {"contrast": ["KAP IV - Placebo"], "AVISIT": ["Day 28"], "estimate": [estimate], "std_error": [error],
         "conf_low": [estimate - 2 * error], "conf_high": [estimate + 2 * error]}
    )  # fmt: skip


own = ks.certify(completers, two, replicates=200, seed=9, n=80).to_frame()
model = ks.certify("mmrm", two, replicates=200, seed=9, n=80).to_frame().iloc[[-1]]
beside = pd.concat({"completers": own, "MMRM": model}).droplevel(1)
beside[["bias", "empirical_se", "coverage"]].round(3)

# %% [markdown]
# The model uses baseline and every visit: its standard error is smaller, which is what a smaller trial is made of.
#
# ## The answer
#
# The number of people for 80% power lies between two sizes of the grid. A probit line through the grid, weighted by the
# Monte-Carlo errors, reads it off.


# %%
def needed(frame, wanted=0.8):
    """People for the power `wanted`: probit of power is nearly straight in the square root of n."""
    z, weight = norm.ppf(frame["power"]), norm.pdf(norm.ppf(frame["power"])) / frame["mcse"]
    slope, start = np.polyfit(np.sqrt(frame["n"]), z, 1, w=weight)
    return ((norm.ppf(wanted) - start) / slope) ** 2


for name, frame in plans.items():
    n = needed(frame)
    beyond = ", beyond the grid: simulate there before believing it" if n > sizes[-1] else ""
    print(f"{name:16} about {10 * round(n / 10)} people{beyond}")
