"""Printed lines made from known samples, and planted errors of each kind."""

import math

import numpy as np
from scipy import special

from kapstats.evidence.checks.counts import p_values


def number(value, digits):
    return f"{value:.{digits}f}"


def p_text(p):
    return "<0.001" if p < 0.001 else number(p, 3)


def counts(rng, i):
    n = [int(v) for v in rng.integers(20, 400, 2)]
    x = [int(rng.integers(1, m)) for m in n]
    tests = p_values(x[0], n[0], x[1], n[1])
    p = p_text(tests[["fisher", "chi-square", "chi-square-yates"][i % 3]])
    base = {"study": f"S{i}", "term": "Nausea"}
    return [
        {
            **base,
            "arm": arm,
            "events": x[k],
            "n": n[k],
            "percent": number(100 * x[k] / n[k], 1),
            "p_value": p if k == 0 else "",
        }
        for k, arm in enumerate(("drug", "placebo"))
    ]


def moments(rng, i):
    n = int(rng.integers(8, 26))
    scores = rng.integers(0, 7, n)
    digits = 2
    return [
        {
            "study": f"S{i}",
            "arm": "drug",
            "term": "score",
            "mean": number(scores.mean(), digits),
            "sd": number(scores.std(ddof=1), digits),
            "n": n,
            "integer": 1,
        }
    ]


def inference(rng, i):
    """A difference by t with its df, or a ratio on the log scale by the normal distribution."""
    estimate, se = rng.normal(0, 4), rng.uniform(0.5, 3)
    if i % 2:
        df = int(rng.integers(15, 300))
        half = special.stdtrit(df, 0.975) * se
        return [
            {
                "study": f"S{i}",
                "term": "change",
                "estimate": number(estimate, 2),
                "std_error": number(se, 2),
                "conf_low": number(estimate - half, 2),
                "conf_high": number(estimate + half, 2),
                "p_value": p_text(2 * special.stdtr(df, -abs(estimate / se))),
                "df": df,
                "scale": "identity",
            }
        ]
    log, error = rng.normal(0, 0.7), rng.uniform(0.1, 0.5)
    return [
        {
            "study": f"S{i}",
            "term": "hazard",
            "estimate": number(math.exp(log), 2),
            "conf_low": number(math.exp(log - 1.959964 * error), 2),
            "conf_high": number(math.exp(log + 1.959964 * error), 2),
            "p_value": p_text(2 * special.ndtr(-abs(log / error))),
            "scale": "log",
        }
    ]


def shift(text, rng, least=3):
    """A printed number some units of its last digit away."""
    digits = len(text.partition(".")[2])
    units = int(rng.integers(least, 40)) * (1 if rng.random() < 0.5 else -1)
    return number(float(text) + units * 10.0**-digits, digits)


def planted(kind, rng, i):
    """Rows with one error of `kind`, and the check that should name it."""
    if kind in ("percent", "events", "p_counts", "duplicate", "exchanged"):
        rows = counts(rng, i)
        if kind == "percent":
            rows[0]["percent"] = number(abs(float(shift(rows[0]["percent"], rng))), 1)
        if kind == "events":
            rows[1]["events"] = min(rows[1]["n"], rows[1]["events"] + int(rng.integers(1, 9)))
        if kind == "p_counts":
            rows[0]["p_value"] = number(min(0.999, max(0.002, rng.uniform(0, 1))), 3)
        if kind == "duplicate":
            rows.append({**rows[0], "events": rows[0]["events"]})
        if kind == "exchanged":
            rows[0]["n"], rows[1]["n"] = rows[1]["n"], rows[0]["n"]
        return rows
    if kind in ("mean", "sd"):
        rows = moments(rng, i)
        rows[0][kind] = number(float(rows[0][kind]) + 0.01 * int(rng.integers(1, 60)), 2)
        return rows
    rows = inference(rng, i)
    line = rows[0]
    if kind == "limit":
        end = ("conf_low", "conf_high")[i // 2 % 2]
        line[end] = number(
            float(line[end])
            + (1 if end == "conf_high" else -1)
            * rng.uniform(0.1, 0.8)
            * abs(float(line["conf_high"]) - float(line["conf_low"])),
            2,
        )
    if kind == "sign":
        line["estimate"] = line["estimate"][1:] if line["estimate"].startswith("-") else "-" + line["estimate"]
    if kind == "p_value":
        line["p_value"] = number(rng.uniform(0.002, 0.999), 3)
    if kind == "order":
        line["conf_low"], line["conf_high"] = line["conf_high"], line["conf_low"]
    return rows


KINDS = ("percent", "events", "exchanged", "duplicate", "p_counts", "mean", "sd", "limit", "sign", "order", "p_value")


def generator(seed):
    return np.random.default_rng(seed)
