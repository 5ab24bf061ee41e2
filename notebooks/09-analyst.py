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
# # From a folder of files to tables that somebody else can check
#
# For the analyst. The data manager sends a folder; the medical writer wants tables; a colleague programs them a second
# time. Can all of it be done from one short plan, and is anything lost on the way?

# %%
import tempfile
from pathlib import Path

import pandas as pd

import kapstats as ks
from kapstats.pipeline.compare import compare

here = Path(tempfile.mkdtemp())
for name in ("adsl", "adqs", "adae", "adex"):  # stands in for the folder that was sent
    getattr(ks.datasets.load("kap-parallel"), name).to_csv(here / f"{name}.csv", index=False)

# %% [markdown]
# ## 1. Read, and look for faults
#
# CSV, SAS transport, sas7bdat, Dataset-JSON, parquet: `read_adam` takes what is there. Rules of the data standard are
# checked, and every finding names rows.

# %%
trial = ks.read_adam(here)
print(trial.check().meta["sentence"])
spoilt = trial.with_data(adqs=trial.adqs.assign(CHG=trial.adqs["CHG"].where(trial.adqs.index != 7, 99.0)))
spoilt.check()

# %% [markdown]
# A change of 99 points in one record is found, because it is not the value less the baseline.
#
# ## 2. Who took part?

# %%
ks.disposition(trial, "TRT01P").table()

# %%
ks.baseline_table(trial.population("ITTFL"), "TRT01P", ["AGE", "SEX", "MADRSBL"]).table()

# %%
ks.exposure_table(trial, "TRT01P").table()

# %% [markdown]
# The records behind a count are one call away:

# %%
ks.listing(trial, "adae", ["USUBJID", "TRT01A", "AEDECOD", "AESEV", "ASTDY"], where="AESER == 'Y'").table()

# %% [markdown]
# ## 3. The plan
#
# What is to be analysed stands in a text file that can be reviewed before the data are unblinded.

# %%
plan = here / "plan.toml"
plan.write_text("""
[study]
title = "Change in MADRS"

[[analysis]]
kind = "mmrm"
name = "madrs"
title = "Change in MADRS from baseline"
formula = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
population = "ITTFL"
where = ["ANL01FL == 'Y'"]
reference = "Placebo"
better = "lower"
""")
ks.run(plan, trial, here / "mine")
print(*sorted(str(p.relative_to(here / "mine")) for p in (here / "mine").rglob("*") if p.is_file()), sep="\n")

# %% [markdown]
# `report.html` is for people, `ard.csv` for programs: one row per statistic, nothing rounded.

# %%
ard = pd.read_csv(here / "mine" / "results" / "ard.csv")
ard.iloc[:5, :8].set_index("analysis").round(3)

# %% [markdown]
# ## 4. The second programmer
#
# Any table of numbers with the same keys will do. One of these two numbers was typed wrongly:

# %%
theirs = pd.read_csv(here / "mine" / "results" / "madrs-differences.csv").query("AVISIT == 'Day 28'")
theirs = theirs[["contrast", "AVISIT", "estimate"]].head(2).assign(table="madrs-differences")
theirs.iloc[1, 2] += 0.01
theirs.to_csv(here / "theirs.csv", index=False)
difference = compare(here / "mine", here / "theirs.csv")
difference

# %% [markdown]
# ## The answer
#
# Every number of the report is a row of `ard.csv`, every file read has its checksum in `manifest.json`, and the second
# programmer's slip is found:

# %%
wrong = difference.to_frame().iloc[0]
print(
    f"""ard.csv    {len(ard):,} numbers, each with its analysis, arm and visit
programmer {difference.meta["sentence"]}
           {wrong["row"]}: {wrong["column"]} {float(wrong["first"]):.4f} here, {float(wrong["second"]):.4f} there"""
)
