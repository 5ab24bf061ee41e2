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
# For the researcher and the safety physician. Five routes of ketamine against placebo in a simulated trial. Who had
# which side effect, how sure can we be of the differences, when do they come and go, and which comparisons of routes
# mislead.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.report.figures.course import course as course_of
from kapstats.safety import course, routes
from kapstats.safety.benefit_risk import benefit_risk
from kapstats.safety.time_to_event import savvy

trial = ks.datasets.load("kap-parallel")
ae = ks.incidence(trial, by="ROUTE")
ae.table(min_percent=10)

# %% [markdown]
# Every subject counts once per row; the denominators are the subjects of the safety population, taken from ADSL. The
# footnote says which records counted and what orders the rows.
#
# ## The tables of a safety section
#
# Overview, deaths, serious events, events leading to discontinuation and common events, each with the risk difference
# against placebo in points and its interval. What the data cannot tell (this trial has no record of deaths) is said,
# and is no zero.

# %%
tables = ae.standard_tables(min_percent=20)
tables["overview"]

# %%
tables["discontinuation"]

# %%
serious = ae.only("serious").to_frame().query("level == 'PT' and n_subjects > 0")
serious.set_index("AEDECOD")[["ROUTE", "n_subjects", "n_events", "N", "percent"]]

# %% [markdown]
# ## Differences against placebo
#
# Each with a Miettinen-Nurminen interval, which exists for every table, also where nobody had the event.

# %%
ae.plot("dot")
plt.show()

# %%
compared = ae.compare(adjust="bh").filter(level="PT").to_frame()
compared.sort_values("p_value").set_index("AEDECOD")[
    ["contrast", "x1", "n1", "x2", "n2", "estimate", "conf_low", "conf_high", "p_value"]
].head(8).round(4)

# %% [markdown]
# With thirty terms and five routes something will stand out by chance. Double FDR looks at body systems and at terms
# within them; the Bayesian model lets the terms of a system learn from each other.

# %%
signals = ks.safety_signals(ae, "double-fdr").to_frame()
for contrast, rows in signals[signals.signal].groupby("contrast"):
    print(f"{contrast}: {', '.join(rows.AEDECOD)}")

# %%
ae.plot("volcano")
plt.show()

# %% [markdown]
# ## From counts alone
#
# The same estimators take counts, from a paper or a slide. Dissociation after intravenous ketamine and placebo: the
# difference, the ratio, the odds ratio.

# %%
n = trial.adsl.groupby("ROUTE").size()
had = trial.adae[trial.adae.AEDECOD.eq("Dissociation") & trial.adae.TRTEMFL.eq("Y")]
x = had.merge(trial.adsl[["USUBJID", "ROUTE"]], on="USUBJID", suffixes=("_AE", "")).groupby("ROUTE").USUBJID.nunique()
pair = (x["INTRAVENOUS"], n["INTRAVENOUS"], x["PLACEBO"], n["PLACEBO"])
counts = {
    "difference": ks.risk_difference(*pair),
    "ratio": ks.risk_ratio(*pair),
    "odds ratio": ks.odds_ratio(*pair),
}
table = pd.concat({measure: found.to_frame() for measure, found in counts.items()}).droplevel(1)
table[["x1", "n1", "x2", "n2", "estimate", "conf_low", "conf_high"]].round(2)

# %% [markdown]
# Nobody died in these 40 people a group. That is no proof of safety: a risk of one in fourteen would still go unseen
# once in twenty times.

# %%
ks.zero_events(40)

# %% [markdown]
# Counted as events instead of people, the denominator is what they were exposed to. Nausea per session:

# %%
events = trial.adae[trial.adae.AEDECOD.eq("Nausea") & trial.adae.TRTEMFL.eq("Y")]
events = events.merge(trial.adsl[["USUBJID", "ROUTE"]], on="USUBJID", suffixes=("_AE", "")).groupby("ROUTE").size()
sessions = trial.adsl.groupby("ROUTE").NSESS.sum()
per = (events["INTRAVENOUS"], sessions["INTRAVENOUS"], events["PLACEBO"], sessions["PLACEBO"])
rates = pd.concat({"ratio": ks.rate_ratio(*per).to_frame(), "difference": ks.rate_difference(*per).to_frame()})
rates.droplevel(1)[["x1", "t1", "x2", "t2", "estimate", "conf_low", "conf_high"]].round(3)

# %% [markdown]
# ## How bad was it?
#
# Every subject once per term, at the worst severity; the darker, the worse.

# %%
ae.plot("severity")
plt.show()

# %% [markdown]
# How much higher are the odds of a worse maximum than under placebo? Proportional odds over none, mild, moderate and
# severe use all of it in one number per route.

# %%
ae.severity_model("Dissociation").exponentiate().to_frame().set_index("contrast")[
    ["estimate", "conf_low", "conf_high"]
].round(2)

# %% [markdown]
# Behind every count stand people. Those with most events, and everything that the first of them went through:

# %%
ae.plot("timeline", limit=15)
plt.show()

# %%
ae.plot("timeline", subject=trial.adae.USUBJID.value_counts().index[0])
plt.show()

# %% [markdown]
# ## How harmful is that? Numbers needed to harm
#
# An interval of the difference that holds 0 becomes one through infinity.

# %%
dissociation = ae.compare().filter(AEDECOD="Dissociation")
routes.number_needed_to_harm(dissociation).to_frame().set_index("contrast")[["text"]]

# %% [markdown]
# Harm beside benefit: how many have to be treated for one more response, and for one more who dissociates. The axes are
# linear in the risk difference, so that an interval through infinity stays in one piece. Whether one response outweighs
# one dissociation is not for a statistic to say.

# %%
ae.plot("benefit-risk", benefit="RESPFL", term="Dissociation")
plt.show()

# %%
benefit_risk(ae, "RESPFL", "Dissociation").to_frame().set_index("contrast")[["nnt", "nnh", "ratio"]].round(2)

# %% [markdown]
# ## When do they come, when do they go?

# %%
ae.plot("prevalence", term="Dissociation")
plt.show()

# %%
vitals = trial.advs.merge(trial.adsl[["USUBJID", "ROUTE"]], on="USUBJID")
cadss = course.acute_course(vitals, by="ROUTE", parameter="CADSS", band="simultaneous", order=list(ae.arms))
cadss.filter(quantity=["peak", "time of peak", "time above"])

# %% [markdown]
# ### The same course from a mixed model
#
# The means above are raw. A mixed model over minutes adjusts for the score before the dose, lets every subject's
# scores be correlated as they are (an unstructured covariance, one for each route), and keeps subjects with a missing
# assessment, under the assumption that it is missing at random.

# %%
after = vitals.query("PARAMCD == 'CADSS' and SESSION == 1 and ATPTN > 0").assign(MINUTE=lambda d: d.ATPTN.astype(int))
fit = ks.mmrm("CHG ~ BASE*MINUTE + ROUTE*MINUTE + us(MINUTE | ROUTE / USUBJID)", after, order={"ROUTE": list(ae.arms)})
means = fit.lsmeans(["ROUTE", "MINUTE"])
means.to_frame().set_index(["ROUTE", "MINUTE"])[["estimate", "conf_low", "conf_high"]].head(6).round(2)

# %% [markdown]
# Fifteen comparisons with placebo, five routes at three times. The band holds for all of them at once: its half width
# is the quantile of the largest of the fifteen correlated t statistics (multivariate t) instead of that of one.

# %%
cells = means.to_frame()
own = pd.DataFrame(np.eye(len(cells)), index=pd.MultiIndex.from_frame(cells[["ROUTE", "MINUTE"]]))
wanted = {f"{r} {m}": (own.loc[(r, m)] - own.loc[("PLACEBO", m)]).tolist() for r, m in own.index if r != "PLACEBO"}
band = means.contrast(wanted, adjust="mvt").to_frame()
band[["ROUTE", "MINUTE"]] = [name.rsplit(" ", 1) for name in band.contrast]
course_of(band.assign(MINUTE=band.MINUTE.astype(int)), x="MINUTE", ylabel="CADSS, difference to placebo")
plt.show()

# %% [markdown]
# Why a covariance of its own for every route? At 40 minutes the scores spread some eighteen times as much after an
# intramuscular dose as after placebo, and six times as much as after four hours. One covariance for all would give the
# oral route limits that are far too wide. One random intercept per subject (`ks.lmm("... + (1 | USUBJID)")`, compound
# symmetry) would give every minute the same spread as well.

# %%
by_route, one, equal = "us(MINUTE | ROUTE / USUBJID)", "us(MINUTE | USUBJID)", "cs(MINUTE | USUBJID)"
structures = {"by route": by_route, "one for all": one, "one spread": equal}
fits = {k: ks.mmrm(f"CHG ~ BASE*MINUTE + ROUTE*MINUTE + {v}", after, order={"ROUTE": list(ae.arms)})
        for k, v in structures.items()}  # fmt: skip
oral = {k: f.lsmeans(["ROUTE", "MINUTE"]).filter(ROUTE="ORAL", MINUTE=40).to_frame() for k, f in fits.items()}
pd.DataFrame({"AIC": {k: f.aic for k, f in fits.items()},
              "SE, oral at 40 minutes": {k: f.std_error.iloc[0] for k, f in oral.items()}}).round(2)  # fmt: skip

# %%
after.groupby(["ROUTE", "MINUTE"], observed=True).CHG.std().unstack().round(1)

# %% [markdown]
# Does it fade with repeated sessions? The denominators are those who were dosed in that session.

# %%
fading = course.attenuation(ae, "Dissociation").to_frame()
fading.pivot(index="SESSION", columns="ROUTE", values="estimate").round(2)[list(ae.arms)]

# %% [markdown]
# Those who were given ketamine in the first and in the fourth session are their own controls. Only people whose two
# sessions differ say anything about the change (McNemar); the difference, the ratio and the odds ratio of pairs:

# %%
of_ketamine = ae.sessions("Dissociation").query("ROUTE != 'PLACEBO'")
first, fourth = of_ketamine.pivot(index="USUBJID", columns="SESSION", values="EVENT")[[1, 4]].dropna().T.to_numpy() == 1
pairs = [int(cell.sum()) for cell in (first & fourth, first & ~fourth, ~first & fourth, ~first & ~fourth)]
paired = {
    "difference": ks.paired_difference(*pairs),
    "ratio": ks.paired_risk_ratio(*pairs),
    "odds ratio": ks.paired_odds_ratio(*pairs[1:3]),
}
pd.concat({measure: e.to_frame() for measure, e in paired.items()}).droplevel(1)[
    ["both", "only_first", "only_second", "neither", "estimate", "conf_low", "conf_high", "p_value"]
].round(3)

# %% [markdown]
# The same question as a model: every session dosed is a row, the sessions of one subject share a random intercept.

# %%
dosed = ae.sessions("Dissociation").assign(AFTER=lambda d: d.SESSION - 1)
faded = ks.glmm("EVENT ~ ROUTE + AFTER + (1 | USUBJID)", dosed, family="binomial", quadrature=15)
faded.summary()

# %% [markdown]
# ## Is it the route or the dose?
#
# More dissociate after an intramuscular dose than after an intravenous one, but its peak concentration is higher too.
# At equal peak concentration (four groups by quantiles, pooled) most of the difference is gone:

# %%
peak = trial.adex.groupby("USUBJID").CMAX.mean()  # ng/mL, mean over the sessions
injected = trial.adsl[trial.adsl.ROUTE.isin(["INTRAVENOUS", "INTRAMUSCULAR"])]
injected = injected.assign(CMAX=injected.USUBJID.map(peak))
both_ways = ks.incidence(trial.adae[trial.adae.USUBJID.isin(injected.USUBJID)], injected, by="ROUTE")
crude, equal_peak = both_ways.compare(), ks.exposure_matched(both_ways, "CMAX")
pd.concat({k: e.filter(AEDECOD="Dissociation").to_frame() for k, e in (("crude", crude), ("equal peak", equal_peak))})[
    ["contrast", "estimate", "conf_low", "conf_high", "matched"]
].droplevel(1).round(3)

# %% [markdown]
# A trial that gives one route at rising doses asks more directly. Does the proportion who dissociate rise with the
# dose? Cochran-Armitage, with the dose as the score; the exact test enumerates, and the departure says whether a
# straight line is enough.

# %%
by_dose = ks.incidence(ks.datasets.load("kap-dose-finding"), by="TRT01P").to_frame().query("AEDECOD == 'Dissociation'")
by_dose.set_index("TRT01P")[["n_subjects", "N", "percent"]]

# %%
mg_per_kg = [0.0, 0.1, 0.2, 0.5, 1.0]  # in the order of the arms
trend = ks.trend_test(by_dose.n_subjects, by_dose.N, mg_per_kg).to_frame()
trend[trend.method.isin(["cochran-armitage", "departure", "exact-two"])].set_index("method").round(4)

# %% [markdown]
# ## The probability of a first headache, five ways
#
# The crude proportion forgets who left early; 1 - Kaplan-Meier pretends that nobody leaves for other reasons.
# Aalen-Johansen, the default, does neither.

# %%
savvy(ae, "Headache", competing="discontinuation").to_frame().pivot(
    index="ROUTE", columns="method", values="estimate"
).round(3)

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
registry["ROUTE"] = pd.Categorical(np.where(nasal, "NASAL", "ORAL"), categories=["ORAL", "NASAL"], ordered=True)
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
both.set_index("contrast")[["crude", "estimate", "conf_low", "conf_high", "misleading"]].round(3)

# %% [markdown]
# The same from counts per stratum: is there any difference within the strata (Cochran-Mantel-Haenszel), and is it the
# same in all of them (homogeneity)?

# %%
tables = registry.assign(n=1, x=nausea.astype(int)).pivot_table(["x", "n"], "ANXIOUS", "ROUTE", "sum", observed=True)
cells = (tables["x", "NASAL"], tables["n", "NASAL"], tables["x", "ORAL"], tables["n", "ORAL"], tables.index)
asked = {"any difference": ks.cmh_test(*cells), "the same in all": ks.homogeneity(*cells)}
tests = pd.concat({question: found.to_frame() for question, found in asked.items()}).droplevel(1)
tests = tests.fillna({"method": "Mantel-Haenszel"})
tests[["method", "statistic", "df", "p_value"]].round(3)

# %%
weighted = routes.propensity_weighted(pooled, ["ANXIOUS"], terms=["Nausea"])
weighted.estimates.to_frame().set_index("contrast")[["crude", "estimate", "conf_low", "conf_high"]].round(3)

# %%
weighted.balance.set_index("covariate").round(3)

# %% [markdown]
# ## The answers

# %%
risks = dissociation.to_frame().set_index("contrast")
print("Dissociation, percentage points more than placebo (95% limits), n = 40 a route:")
for contrast, row in risks.iterrows():
    print(f"  {contrast:26} {100 * row.estimate:5.1f} ({100 * row.conf_low:.1f} to {100 * row.conf_high:.1f})")
session = faded.coefficients.to_frame().set_index("term").loc["AFTER"]
odds = [float(np.exp(session[name])) for name in ("estimate", "conf_low", "conf_high")]
print("Odds of it with every further session: times {:.2f} ({:.2f} to {:.2f}).".format(*odds))
