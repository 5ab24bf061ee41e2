"""``./dev reference``: the same models in R and here, side by side. Tests never need R; they hold its numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import kapstats as ks
from kapstats.table import Table

REFERENCE = Path(__file__).resolve().parents[1]
TOLERANCE = {"lmm.kr": 1e-5, "lmm": 1e-6, "meta": 1e-6}  # what R's own iterations leave; everything else 1e-7


def main() -> int:
    """Print every quantity from R and from kapstats with the relative difference; 1 when one is too far apart."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        print("Rscript is not there. On Debian: apt-get install r-base-core r-cran-survival r-cran-cmprsk "
              "r-cran-lme4 r-cran-pbkrtest r-cran-metafor")  # fmt: skip
        return 2
    script = str(Path(__file__).with_name("models.R"))
    found = subprocess.run([rscript, script, str(REFERENCE)], capture_output=True, text=True, check=True)
    theirs = {name: float(value) for name, value in (line.split(",") for line in found.stdout.split())}
    ours = dict(_ours())
    rows, worst = [], 0
    for name, value in theirs.items():
        gap = abs(ours[name] - value) / max(abs(value), 1e-8)
        allowed = next((t for prefix, t in TOLERANCE.items() if name.startswith(prefix)), 1e-7)
        worst += gap > allowed
        rows.append((name, f"{value:.10g}", f"{ours[name]:.10g}", f"{gap:.1e}", "" if gap <= allowed else "APART"))
    print(
        Table(("quantity", "R", "kapstats", "relative difference", ""), tuple(rows), title="R and kapstats").to_text()
    )
    missing = sorted(set(ours) - set(theirs))
    if missing:
        print(f"\nNot compared, since their R package is missing: {', '.join(missing)}")
    return int(worst > 0)


def _ours() -> Iterator[tuple[str, float]]:
    trial = pd.read_csv(REFERENCE / "survival" / "trial.csv")
    trial["arm"] = pd.Categorical(trial["arm"], ["placebo", "low", "high"], ordered=True)
    yield from _survival(trial)
    gray = ks.gray_test("Surv(time, status) ~ arm", trial, cause=1)
    yield "gray.chisq", float(gray["statistic"][0])
    sessions = pd.read_csv(REFERENCE / "mixed" / "kap_sessions.csv")
    fit = ks.lmm("qids ~ dose_mgkg*week + (week | subject)", sessions)
    yield "lmm.loglik", float(fit.loglik)
    for i, row in enumerate(fit.coefficients.frame.itertuples(), 1):
        yield f"lmm.coef.{i}", row.estimate
        yield f"lmm.kr.se.{i}", row.std_error
        yield f"lmm.kr.df.{i}", row.df
    studies = pd.DataFrame({"study": list("abcde"), "estimate": [-4.1, -3.2, -6.0, -1.5, -4.8]})
    pooled = ks.meta_analysis(studies.assign(std_error=[1.7, 1.9, 2.1, 1.4, 2.6]), measure="SMD", model="reml")
    yield "meta.estimate", float(pooled["estimate"][0])
    yield "meta.se", float(pooled["std_error"][0])
    yield "meta.tau2", float(pooled.meta["tau2"])


def _survival(trial: pd.DataFrame) -> Iterator[tuple[str, float]]:
    at = ks.kaplan_meier("Surv(time, status == 1) ~ arm", trial, conf_type="log-log").at([26]).frame
    for i, row in enumerate(at.itertuples(), 1):
        yield f"km.surv.{i}", row.estimate
        yield f"km.lower.{i}", row.conf_low
    yield "logrank.chisq", float(ks.logrank("Surv(time, status == 1) ~ arm", trial)["statistic"][0])
    for ties in ("efron", "breslow", "exact"):
        rows = ks.cox("Surv(time, status == 1) ~ arm + madrs0", trial, ties=ties).coefficients.frame
        for i, row in enumerate(rows.itertuples(), 1):
            yield f"cox.{ties}.coef.{i}", row.estimate
            yield f"cox.{ties}.se.{i}", row.std_error
    zph = ks.cox("Surv(time, status == 1) ~ arm + madrs0", trial).zph().frame
    yield "zph.global", float(zph.loc[zph["term"] == "GLOBAL", "statistic"].iloc[0])


if __name__ == "__main__":
    sys.exit(main())
