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
# # Did they respond?
#
# The confirmatory analysis of a depression score measured at several visits, from the table to the claim, on a
# simulated trial of ketamine by five routes whose true effects are known.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import kapstats as ks

trial = ks.datasets.load("kap-parallel")
scores = trial.adqs[trial.adqs["AVISITN"] > 0]
scores[["USUBJID", "TRT01P", "AVISIT", "BASE", "AVAL", "CHG"]].head()

# %% [markdown]
# ## One model, stated in one line
#
# Treatment and baseline act at every visit, and the covariance of the visits is left free. The result begins with what
# was fitted and to how many records; convergence is certified, not assumed.

# %%
model = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
fit = ks.mmrm(model, scores)
print(fit.sentence)
print(f"decrement {fit.state.fits.decrement[0]:.1e}, scaled gradient {fit.state.fits.scaled_gradient[0]:.1e}")
fit.correlation.round(2)

# %% [markdown]
# ## The means and their differences
#
# Least-squares means by route and visit, then each route against placebo. Five comparisons at a visit: Dunnett's
# adjustment uses their correlation, and gives simultaneous intervals too.

# %%
means = fit.lsmeans("TRT01P", by="AVISIT")
last = means.filter(AVISIT="Day 28")
last.contrast("trt.vs.ctrl", adjust="dunnett")

# %%
pd.DataFrame(
    {
        adjust: last.contrast("trt.vs.ctrl", adjust=adjust)["p_value"].to_numpy()
        for adjust in ("none", "dunnett", "holm", "bonferroni")
    },
    index=last.contrast()["contrast"],
).map("{:.2g}".format)

# %% [markdown]
# The profile over time, with 95 % intervals.

# %%
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
table = means.to_frame()
for place, (arm, rows) in enumerate(table.groupby("TRT01P", observed=True, sort=False)):
    x = np.arange(len(rows)) + 0.06 * (place - 2.5)
    color = "0.6" if "lacebo" in str(arm) else f"C{place}"
    ax.errorbar(x, rows["estimate"], yerr=rows["estimate"] - rows["conf_low"], color=color, marker="o", ms=4, lw=1.2)
    ax.text(len(rows) - 0.55, -8.5 - 1.1 * place, str(arm), color=color, va="center")
ax.set_xticks(np.arange(len(rows)), [str(v) for v in rows["AVISIT"]])
ax.set(ylabel="Change in MADRS", xlim=(-0.4, len(rows) + 0.3))
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## Was it right?
#
# The trial is simulated, so the true differences are known: those had everybody stayed (the hypothetical strategy),
# which is what an MMRM of the scores seen estimates. About one interval in twenty misses its truth.

# %%
found = means.contrast("trt.vs.ctrl").to_frame()
truth = pd.DataFrame(trial.truth["mean_difference"]).query("strategy == 'hypothetical'")
beside = found.merge(truth[["contrast", "AVISIT", "value"]], on=["contrast", "AVISIT"])
beside["covered"] = beside["value"].between(beside["conf_low"], beside["conf_high"])
print(f"{beside['covered'].sum()} of {len(beside)} intervals hold the true difference")
beside[beside["AVISIT"] == "Day 28"][["contrast", "estimate", "conf_low", "conf_high", "value", "covered"]].round(2)

# %% [markdown]
# ## The same question, asked differently
#
# Degrees of freedom and covariance are chosen when asking; nothing is fitted again. In a trial of this size the answers
# are close, which is worth seeing rather than believing.

# %%
ways = {
    "Kenward-Roger (default)": {},
    "Kenward-Roger, first order": {"df": "kenward-roger-linear"},
    "Satterthwaite": {"df": "satterthwaite"},
    "robust CR2, Satterthwaite": {"vcov": "CR2"},
    "normal": {"df": "normal"},
}
rows = []
for name, how in ways.items():
    row = fit.lsmeans("TRT01P", by="AVISIT", **how).filter(AVISIT="Day 28").contrast().frame.iloc[0]
    rows.append({"method": name, **row[["estimate", "std_error", "df", "p_value"]]})
pd.DataFrame(rows).round(4)

# %% [markdown]
# ## Terms, averages and areas
#
# F tests by term (type III, SAS's hypotheses), the difference averaged over all visits, and the area under the curve.

# %%
fit.anova(type=3)

# %%
by_visit = fit.lsmeans(["TRT01P", "AVISIT"])
by_visit.combine("AVISIT").contrast("trt.vs.ctrl")

# %%
days = scores.drop_duplicates("AVISIT").set_index("AVISIT")["AVISITN"].astype(float).sort_values()
width = np.gradient(days.to_numpy(), edge_order=1)
area = dict(zip(days.index, width / width.sum(), strict=True))
by_visit.combine("AVISIT", area).contrast("trt.vs.ctrl", adjust="dunnett")

# %% [markdown]
# ## Is the model fair to the data?
#
# Other covariance structures by likelihood; residuals; the subjects that move the answer most.

# %%
others = {s: ks.mmrm(model.replace("us(", f"{s}("), scores) for s in ("toeph", "ar1h", "csh", "cs")}
pd.DataFrame(
    {name: [f.n_parameters, f.loglik, f.aic, f.bic] for name, f in {"us": fit, **others}.items()},
    index=["parameters", "log-likelihood", "AIC", "BIC"],
).T.round(1)

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for ax, kind in zip(axes, ("residuals", "qq", "fit"), strict=True):
    fit.plot(ax, kind=kind)

# %%
influence = fit.influence().frame.sort_values("cook_distance", ascending=False)
influence.head(5).round(3)

# %% [markdown]
# ## When the free covariance cannot be had
#
# Five subjects cannot carry fifteen parameters. A chain of structures: the first that is certified wins, what failed
# stays on record, and a warning says so.

# %%
few = scores[scores["USUBJID"].isin(sorted(scores["USUBJID"].unique())[:5])]
chained = ks.mmrm("CHG ~ BASE + AVISIT + us(AVISIT | USUBJID)", few, covariance=["us", "toeph", "csh", "cs"])
pd.DataFrame([[a.structure, a.verdict] for a in chained.attempts], columns=["structure", "verdict"])

# %% [markdown]
# ## Sites that may not share rows
#
# Each site sends cross-products by visit pattern; the coordinator adds them. Without suppression the fit is the pooled
# one.

# %%
levels = {"TRT01P": list(trial.arms), "AVISIT": list(days.index)}
parts = [ks.MmrmStatistics.from_data(model, rows, levels=levels) for _, rows in scores.groupby("SITEID")]
together = sum(parts).fit()
print(f"{len(parts)} sites, log-likelihood {together.loglik:.9f}; pooled {fit.loglik:.9f}")

# %% [markdown]
# ## The methods paragraph

# %%
print(fit.explain())
