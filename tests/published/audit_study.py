"""Recall and false alarms of the audit: ``python -m tests.published.audit_study 1000`` prints the table of the docs.

A table has nine printed lines or more: six of adverse events (three terms, two arms, a P value each), one mean with its
SD, one difference and one ratio. One error of one kind is planted; a finding on another line is a false alarm.
"""

import sys
from math import ceil, floor

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.evidence.checks.moments import possible_sums
from kapstats.evidence.printed import parse
from tests.published import claims

KINDS = (*claims.KINDS, "missing", "total")
TERMS = ("Any adverse event", "Nausea", "Dizziness", "Headache", "Dissociation")


def table(rng):
    """Lines that hold together."""
    n = [int(v) for v in rng.integers(20, 400, 2)]
    rows = []
    most = [0, 0]
    for place, term in enumerate(reversed(TERMS)):
        x = [int(rng.integers(1, m // 2)) for m in n]
        if term == TERMS[0]:
            x = [int(rng.integers(top, m)) for top, m in zip(most, n, strict=True)]
        most = [max(a, b) for a, b in zip(most, x, strict=True)]
        p = claims.p_text(
            claims.p_values(x[0], n[0], x[1], n[1])[("fisher", "chi-square", "chi-square-yates")[place % 3]]
        )
        for k, arm in enumerate(("drug", "placebo")):
            percent = claims.number(100 * x[k] / n[k], 1)
            line = {"study": "S", "term": term, "arm": arm, "events": x[k], "n": n[k], "percent": percent}
            rows.append({**line, "p_value": p if k == 0 else ""})
    more = [*claims.moments(rng, 1), *claims.inference(rng, 1), *claims.inference(rng, 2)]
    return [*rows, *({**line, "study": f"other {i}"} for i, line in enumerate(more))]


def plant(kind, rows, rng):
    """The table with one error of `kind`, and the lines that may be named for it."""
    rows = [dict(r) for r in rows]
    counts = [i for i, r in enumerate(rows) if "events" in r and r["term"] != TERMS[0]]
    i = int(rng.choice(counts))
    pair = [j for j in counts if rows[j]["term"] == rows[i]["term"]]
    score, change, hazard = len(rows) - 3, len(rows) - 2, len(rows) - 1
    if kind == "percent":
        rows[i]["percent"] = claims.number(abs(float(claims.shift(rows[i]["percent"], rng))), 1)
    elif kind == "events":
        rows[i]["events"] = min(rows[i]["n"], rows[i]["events"] + int(rng.integers(1, 9)))
        return rows, {*pair, *(j for j, r in enumerate(rows) if r.get("term") == TERMS[0])}
    elif kind == "exchanged":
        a, b = pair
        rows[a]["n"], rows[b]["n"] = rows[b]["n"], rows[a]["n"]
    elif kind == "duplicate":
        rows.append(dict(rows[i]))
        return rows, {i, len(rows) - 1}
    elif kind == "missing":
        del rows[i]
        return rows, {j for j, r in enumerate(rows) if r.get("term") == rows[min(pair)].get("term")}
    elif kind == "total":
        top = next(j for j, r in enumerate(rows) if r.get("term") == TERMS[0])
        most = max(
            r["events"] for r in rows if r.get("arm") == rows[top]["arm"] and "events" in r and r["term"] != TERMS[0]
        )
        rows[top]["events"] = max(0, most - int(rng.integers(1, 4)))
        rows[top]["percent"] = claims.number(100 * rows[top]["events"] / rows[top]["n"], 1)
        return rows, {j for j, r in enumerate(rows) if r.get("term") == TERMS[0]}
    elif kind == "p_counts":
        rows[min(pair)]["p_value"] = claims.number(rng.uniform(0.002, 0.999), 3)
    elif kind in ("mean", "sd"):
        rows[score][kind] = claims.number(float(rows[score][kind]) + 0.01 * int(rng.integers(1, 60)), 2)
        return rows, {score}
    else:
        line = rows[change if rng.random() < 0.5 else hazard]
        broken(kind, line, rng)
        return rows, {change, hazard}
    return rows, set(pair)


def broken(kind, line, rng):
    """One number of an estimate's line changed."""
    low, high = float(line["conf_low"]), float(line["conf_high"])
    if kind == "limit":
        end, sign = (("conf_low", -1), ("conf_high", 1))[int(rng.integers(2))]
        line[end] = claims.number(float(line[end]) + sign * rng.uniform(0.1, 0.8) * (high - low), 2)
    elif kind == "sign":
        line["estimate"] = line["estimate"][1:] if line["estimate"].startswith("-") else "-" + line["estimate"]
    elif kind == "p_value":
        line["p_value"] = claims.number(rng.uniform(0.002, 0.999), 3)
    elif kind == "order":
        line["conf_low"], line["conf_high"] = line["conf_high"], line["conf_low"]


def sample(mean, sd, n):
    """Whole numbers that print this mean and SD, or None when none is found."""
    m, s = parse(mean), parse(sd)
    for total in possible_sums(m, n):
        share, rest = divmod(total, n)
        x = np.array([share + 1] * rest + [share] * (n - rest))
        low, high = (max(0.0, v) ** 2 * (n - 1) + total**2 / n for v in (s.low, s.high))
        for squares in range(ceil(low - 1e-6), floor(high + 1e-6) + 1):
            found = _spread(x.copy(), squares - int((x**2).sum()))
            if found is not None:
                return found
    return None


def _spread(x, wanted):
    """Move pairs one unit apart until the sum of squares has grown by `wanted`."""
    while wanted > 0:
        gaps = 2 * (x[:, None] - x[None, :]) + 2
        gaps[gaps > wanted] = -1
        np.fill_diagonal(gaps, -1)
        i, j = np.unravel_index(np.argmax(gaps), gaps.shape)
        if gaps[i, j] <= 0:
            return None
        wanted -= gaps[i, j]
        x[i] += 1
        x[j] -= 1
    return x if wanted == 0 else None


def study(tables, seed=2026):
    """Per kind: tables with an error planted, found, missed though no sample prints it, tables with a false alarm."""
    out = []
    for k, kind in enumerate(KINDS):
        tried = found = impossible = alarms = 0
        for i in range(tables):
            rng = np.random.default_rng([seed, k, i])
            clean = table(rng)
            rows, where = plant(kind, clean, rng)
            if rows == clean:
                continue
            tried += 1
            result = ks.audit(pd.DataFrame(rows))
            hit = bool(where & set(result.meta["rows"]))
            found += hit
            alarms += bool(set(result.meta["rows"]) - where)
            if kind in ("mean", "sd") and not hit:
                line = rows[next(iter(where))]
                impossible += sample(line["mean"], line["sd"], line["n"]) is None
        out.append({"planted": kind, "tables": tried, "found": found, "missed": impossible, "alarms": alarms})
    return pd.DataFrame(out)


if __name__ == "__main__":
    print(study(int(sys.argv[1])).to_string(index=False))
