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
# # Relapse as it is really observed
#
# For the researcher whose relapses do not come with a clock: does it matter how relapse was found, who left, and when
# somebody looked? A relapse is found at a visit; it happened some time before. Some people leave before they relapse;
# some relapse more than once; and a withdrawal trial looks at its data before the end. Each of these has its own
# estimator. The data are a synthetic trial, so what is true is known.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.relapse.multistate import state_occupation

trial = ks.datasets.load("kap-parallel")
arms = trial.arms
two = [arms[0], arms[1]]
trial.adfu[["USUBJID", "TRT01P", "ADY", "AVAL"]].head().set_index("USUBJID")

# %% [markdown]
# ## 1. Derive the endpoint, by a rule that can be read
#
# MADRS at or above 22 at two consecutive assessments 5 to 15 days apart. The interval is (last visit below 22, first
# visit of the pair]; a first high score that is never confirmed is censored before it, or counts as an event in the
# sensitivity analysis.

# %%
relapse = ks.derive_relapse(trial.adfu, definition="sustain-1")
relapse[["USUBJID", "TRT01P", "AVAL", "CNSR", "LEFT", "RIGHT", "RULE"]].head().set_index("USUBJID")

# %%
for definition in ("sustain-1", "madrs-22", "madrs-25"):
    found = ks.derive_relapse(trial.adfu, definition=definition)
    print(f"{definition:9} {found['EVENT'].sum()} relapses of {len(found)}, mean time {found['AVAL'].mean():.1f} days")

# %% [markdown]
# One assessment at or above 22 finds the same relapses as two, because in these data no first high score went
# unconfirmed; a threshold of 25 does not.

# %% [markdown]
# ## 2. Curves that admit what is not known
#
# Inside the shaded boxes the curve may fall anywhere. The median is an interval.

# %%
pair = relapse[relapse["TRT01P"].isin(two)]
curve = ks.turnbull("Surv(LEFT, RIGHT, type='interval2') ~ TRT01P", pair, order={"TRT01P": two})
curve.plot()
plt.show()
curve.median()

# %%
curve.test()

# %% [markdown]
# ## 3. The same hazard ratio, four ways to date a relapse
#
# Dating relapse at the visit that found it and treating it as exact, at the midpoint, or as what it is: an interval.

# %%
order = {"TRT01P": two}
right = ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", pair, order=order)
midpoint = pair.assign(T=(pair["LEFT"] + pair["RIGHT"].fillna(pair["LEFT"])) / 2)
middle = ks.cox("Surv(T, CNSR == 0) ~ TRT01P", midpoint, order=order)
interval = ks.cox("Surv(AVAL, CNSR == 0) ~ TRT01P", pair, interval_censored=("LEFT", "RIGHT"), order=order)
weibull = ks.parametric_survival("Surv(LEFT, RIGHT, type='interval2') ~ TRT01P", pair, order=order)
columns = ["estimate", "conf_low", "conf_high"]
ratios = pd.concat(
    {
        "visit date": right.hazard_ratios().frame[columns],
        "midpoint": middle.hazard_ratios().frame[columns],
        "interval": interval.hazard_ratios().frame[columns],
        "interval, Weibull": weibull.hazard_ratios().frame[columns],
    }
).droplevel(1)
ratios.round(3)

# %% [markdown]
# With visits a week apart the hazard ratio hardly moves; the *time* does. Dating at the visit makes relapse look
# later and the hazard look rising.

# %%
dated = ks.parametric_survival("Surv(AVAL, CNSR == 0) ~ TRT01P", pair, order=order)
pd.DataFrame({"interval": 1 / weibull.scale, "dated at the visit": 1 / dated.scale}, index=["Weibull shape"]).round(3)

# %% [markdown]
# ## 4. Leaving is not the same as staying well
#
# `1 - KM` censors those who leave. Cumulative incidence says how many relapse in the trial as it ran.

# %%
status = trial.adtte.assign(
    STATUS=np.select([trial.adtte["EVNTDESC"] == "RELAPSE", trial.adtte["EVNTDESC"] == "LOST TO FOLLOW-UP"], [1, 2], 0)
)
incidence = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ TRT01P", status)
incidence.plot()
plt.show()
incidence.at(56)

# %%
everything = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ 1", status, cause=None)
everything.plot(stacked=True, names={1: "relapsed", 2: "lost"}, free="well and followed")
plt.show()

# %%
one = ks.kaplan_meier("Surv(AVAL, STATUS == 1) ~ 1", status).at(80)["estimate"][0]
cif = ks.cumulative_incidence("Surv(AVAL, STATUS) ~ 1", status).at(80)["estimate"][0]
print(f"by day 80: 1 - KM {1 - one:.3f}, cumulative incidence {cif:.3f}")

# %% [markdown]
# Gray's test compares the cumulative incidences; the Fine-Gray model puts a ratio on them. Cox models of every cause
# say how each hazard acts, which is another question.

# %%
ks.gray_test("Surv(AVAL, STATUS) ~ TRT01P", status)

# %%
ks.fine_gray("Surv(AVAL, STATUS) ~ TRT01P", status).hazard_ratios()

# %%
ks.cause_specific("Surv(AVAL, STATUS) ~ TRT01P", status).hazard_ratios()

# %% [markdown]
# ## 5. More than one relapse, and the way back
#
# A small simulated course: non-response, response, relapse, response again. State occupation says how many are in
# response when; the mean cumulative function counts relapses.

# %%
rng = np.random.default_rng(7)
rows = []
for person in range(120):
    arm, t, state = person % 2, 0, "non-response"
    while t < 40:
        step = 1 + int(rng.exponential(12 if state == "response" and arm else 6))
        nxt = {"non-response": "response", "response": "relapse", "relapse": "response"}[state]
        done = t + step >= 40
        rows.append({"id": person, "arm": arm, "start": t, "stop": min(t + step, 40), "to": "none" if done else nxt})
        t, state = t + step, nxt
course = pd.DataFrame(rows)
states = state_occupation("Surv(start, stop, to) ~ arm", course, id="id", initial="non-response", censored="none")
states.mean_time(40).frame.pivot(index="state", columns="arm", values="estimate").round(2)

# %%
events = course.assign(event=(course["to"] == "relapse") * 1)
mean = ks.mean_cumulative_function("Surv(start, stop, event) ~ arm", events, id="id")
mean.test()

# %%
ks.recurrent("Surv(start, stop, event) ~ arm", events, id="id", model="lwyy").hazard_ratios()

# %% [markdown]
# ## 6. A withdrawal trial with one look
#
# Thirty-one of fifty-nine relapses at the interim, O'Brien-Fleming type spending.

# %%
design = ks.GroupSequentialDesign(information=(31 / 59, 1), events=59)
design.boundaries()

# %%
design.sample_size(0.5, power=0.9, control_median=7, accrual=24, follow_up=6, dropout=(0.05, 12))

# %%
interim = design.analyse(1.4, 31)
print(f"at the look: {interim.decision}; conditional power at hazard ratio 0.5: {interim.conditional_power(0.5):.2f}")
done = design.analyse([1.4, 2.6], [31, 59])
print(f"at the end: {done.decision}")
done.final().exponentiate()

# %% [markdown]
# And when the interim makes one change the trial, add subjects or follow longer? The evidence of the two stages is then
# joined with weights fixed beforehand, which keeps the error rate whatever was changed. On a synthetic withdrawal
# trial, cut at the day of the 31st relapse:

# %%
withdrawal = ks.datasets.load("kap-withdrawal")
entered = withdrawal.adtte.merge(withdrawal.adsl[["USUBJID", "TRTSDT"]], on="USUBJID")
entered["ENTRY"] = (entered["TRTSDT"] - entered["TRTSDT"].min()).dt.days
ks.weighted_logrank_combination(
    "Surv(AVAL, CNSR == 0) ~ TRT01P",
    entered,
    entry="ENTRY",
    interim_events=31,
    planned=(31, 59),
    order={"TRT01P": ["Placebo", "KAP"]},
).to_frame().set_index("quantity")[["events", "statistic", "p_value", "estimate", "conf_low", "conf_high"]].round(3)

# %% [markdown]
# When will the remaining events be there? Those still followed are projected with the hazards seen so far.

# %%
ks.project_events("Surv(AVAL, CNSR == 0) ~ 1", trial.adtte, [0, 14, 28, 56])

# %% [markdown]
# ## The answers

# %%
spread = ratios["estimate"]
print(
    f"""how it is dated: hazard ratio {spread.min():.2f} to {spread.max():.2f} over four ways; only the time moves
who leaves:     by day 80 {100 * (1 - one):.0f}% relapse if nobody could leave, {100 * cif:.0f}% in the trial as it ran
when one looks: a look at half of the relapses is paid for with limits that are wider at both analyses"""
)
