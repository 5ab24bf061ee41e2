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
# # Which dose, in whom, and did the blind matter?
#
# For the researcher with a positive trial in hand. Three questions follow it: is there a dose beyond which nothing is
# gained, does it work better in some people, and how much of the effect is belief? Simulated trials, so that the true
# answers are known.

# %%
import pandas as pd

import kapstats as ks
from kapstats.simulation.scenario import load

trial = ks.datasets.load("kap-dose-finding")
scores = trial.adqs[trial.adqs["AVISITN"] > 0]
print(", ".join(f"{arm} n = {n}" for arm, n in trial.adsl["TRT01P"].value_counts().reindex(trial.arms).items()))

# %% [markdown]
# ## Which dose?
#
# First the means at every dose, adjusted for baseline and for those not seen.

# %%
fit = ks.mmrm("CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)", scores)
means = fit.lsmeans("TRT01P", by="AVISIT").filter(AVISIT="Day 1")
means.contrast("trt.vs.ctrl", adjust="dunnett")

# %% [markdown]
# Comparing arms in pairs wastes the order of the doses. MCP-Mod tests for a trend of any of several shapes and pays
# once for the choice:

# %%
doses = [0.0, 0.1, 0.2, 0.5, 1.0]  # mg/kg, in the order of the arms
shapes = {"linear": ("linear", {}), "early": ("emax", {"ed50": 0.1}), "late": ("emax", {"ed50": 0.5})}
ks.mcp_mod(means, doses, shapes)

# %% [markdown]
# The curve is an average over the shapes, so that its interval carries the doubt about the shape.

# %%
curve = ks.dose_response(means, doses, models=("linear", "emax", "quadratic"), draws=100)
ax = curve.plot(xlabel="Ketamine, mg/kg", ylabel="Change in MADRS at day 1, points")

# %%
curve.predict([0.1, 0.25, 0.5, 1.0])

# %% [markdown]
# ## In whom?
#
# Men and women, older and younger: factors named beforehand. The interaction test speaks to a difference between
# subgroups; an interval that holds 0 beside one that does not says nothing.

# %%
parallel = ks.datasets.load("kap-parallel")
last = parallel.adqs[(parallel.adqs["AVISIT"] == "Day 28") & parallel.adqs["TRT01P"].isin(["Placebo", "KAP IV"])]
last = last.merge(parallel.adsl[["USUBJID", "SEX", "AGEGR1"]], on="USUBJID")
groups = ks.subgroups(last, "CHG", by="TRT01P", factors=["SEX", "AGEGR1"], reference="Placebo", covariates=["BASE"])
ax = groups.plot(xlabel="Difference in MADRS at day 28, points")

# %% [markdown]
# ## Did they know?
#
# Ketamine is felt. After the last session 40 people an arm are asked what they were given. Bang's index is 0 for
# guessing, 1 when everybody is right.

# %%
counts = {"Ketamine": (32, 5, 3), "Placebo": (6, 25, 9)}  # said ketamine, said placebo, unsure
index = ks.blinding_index(counts=counts)
index

# %% [markdown]
# What does that do to the estimate? Two trials with the same drug, which takes off 4 points: in one nobody is moved by
# belief, in the other believing in ketamine takes off 3 points more, and 90% of those on ketamine believe, 20% of the
# others.

# %%
whole = load("kap-parallel")
arms = [
    {"label": "Placebo", "code": 0, "route": "PLACEBO", "believes": 0.2},
    {"label": "KAP IV", "code": 1, "route": "INTRAVENOUS", "effect": -4.0, "believes": 0.9},
]
plain = {"relapse": None, "adverse_events": None, "course": None, "dosing": None, "arms": arms}
found, trials = {}, {}
for name, belief in (("belief does nothing", 0.0), ("belief takes off 3 points", -3.0)):
    drawn = ks.simulate(whole.change(name="belief", response={"expectancy": belief}, **plain), n=2000, seed=1)
    trials[name] = drawn.adqs.query("AVISIT == 'Day 28'").merge(drawn.adsl[["USUBJID", "GUESS"]], on="USUBJID")
    model = ks.mmrm("CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)", drawn.adqs.query("AVISITN > 0"))
    found[name] = model.lsmeans("TRT01P", by="AVISIT").contrast("trt.vs.ctrl").filter(AVISIT="Day 28").to_frame()
both = pd.concat(found).droplevel(1)
both[["contrast", "estimate", "conf_low", "conf_high"]].round(2)

# %% [markdown]
# No analysis of the second trial can tell drug from belief: the difference is 0.9 - 0.2 = 0.7 of 3 points, and it is in
# every interval. What can be said is what would be left for every size of belief. Asked, 900 of 1,000 on ketamine and
# 200 of 1,000 on placebo say ketamine:

# %%
believed = {"KAP IV": (900, 100, 0), "Placebo": (200, 800, 0)}  # said ketamine, said placebo, unsure
left = ks.expectancy_bound(both.iloc[[1]], believed, [0.0, -1.5, -3.0, -6.0])
left

# %% [markdown]
# With the true 3 points the interval holds the drug's 4 points again. Belief would have to take off 7 points by itself
# to explain everything: whether that is credible is for the reader to judge, with a number in hand.
#
# Is the guess itself not the way out: compare only people who guessed alike? It depends on where guesses come from.
# First the second trial, in which the guess was made from what was felt in the session and then moved the scores. Then
# the first one, in which belief does nothing, with a guess made at the end by those who look back: who got better than
# most says ketamine.

# %%
asked = {
    "felt it, then scored": trials["belief takes off 3 points"],
    "scored, then guessed": trials["belief does nothing"].assign(
        GUESS=lambda d: (d["CHG"] < d["CHG"].median()).map({True: "DRUG", False: "PLACEBO"})
    ),
}
within = {k: ks.effect_by_guess(d, "CHG", arm="TRT01P", guess="GUESS", covariates=["BASE"]) for k, d in asked.items()}
pd.concat({k: e.to_frame() for k, e in within.items()}).droplevel(1)[
    ["quantity", "guess", "n", "estimate", "conf_low", "conf_high"]
].round(2)

# %% [markdown]
# The drug takes off 4 points in both. Adjusting for the guess finds them where the guess came first, and explains most
# of a real effect away where the guess followed the outcome. A table of guesses cannot tell the two apart: ask early,
# before anybody can have got better.
#
# ## The answers

# %%
half, full = (curve.predict([dose]).to_frame().iloc[0] for dose in (0.5, 1.0))
least = groups.to_frame()["interaction_p_value"].min()
bang = index.to_frame().set_index("arm")["estimate"]
print(
    f"""dose   {half.estimate:.1f} points ({half.conf_low:.1f} to {half.conf_high:.1f}) at 0.5 mg/kg
       {full.estimate:.1f} points ({full.conf_low:.1f} to {full.conf_high:.1f}) at 1.0 mg/kg
whom   {last["USUBJID"].nunique()} people, no difference between subgroups shown (least p of interaction {least:.2f})
blind  Bang's index {bang["Ketamine"]:.2f} under ketamine, {bang["Placebo"]:.2f} under placebo: the blind was broken;
       belief moved the estimate from {both.estimate.iloc[0]:.1f} to {both.estimate.iloc[1]:.1f} points,
       and would have to take off {-left.meta["explains_all"]:.0f} points by itself to explain it all"""
)
