"""Files of MmrmStatistics are believed only where their numbers fit each other, and no part counts twice."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError
from kapstats.kernels.pattern_moments import PatternMoments, pair_index
from kapstats.response import mmrm_files

FORMULA = "CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)"
LEVELS = {"TRT01P": ["Placebo", "KAP"], "AVISIT": ["Week 1", "Week 2", "Week 3"]}


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(3)
    n = 80
    frame = pd.DataFrame({"USUBJID": [f"S{i:03d}" for i in range(n)], "TRT01P": ["Placebo", "KAP"] * (n // 2)})
    frame = frame.assign(BASE=rng.normal(30, 4, n), SITEID=rng.integers(1, 5, n), u=rng.normal(0, 3, n))
    long = frame.loc[frame.index.repeat(3)].reset_index(drop=True).assign(AVISIT=LEVELS["AVISIT"] * n)
    long["CHG"] = long["u"] + rng.normal(0, 3, len(long)) - 2 * (long["TRT01P"] == "KAP")
    return long[(rng.random(len(long)) > 0.12) | (long["AVISIT"] == "Week 1")].reset_index(drop=True)


@pytest.fixture(scope="module")
def sites(scores):
    return [
        ks.MmrmStatistics.from_data(FORMULA, scores[scores["SITEID"].isin(own)], levels=LEVELS, site=name)
        for name, own in (("north", (1, 2)), ("south", (3, 4)))
    ]


def forged(path, held, facts=None, **changes):
    """A file with changed arrays and a digest that fits them: only what the numbers mean can tell."""
    arrays = {**held, **changes}
    told = {**json.loads(str(held["facts"])), **(facts or {})}
    try:
        stats = PatternMoments(arrays["seen"], arrays["block"], arrays["count"], arrays["n_obs"], arrays["log_weight"],
                               pair_index(arrays["seen"]), arrays["gram"])  # fmt: skip
        told["digest"] = mmrm_files.digest(stats, arrays["cells"], told["formula"])
    except (ValueError, IndexError, AttributeError):
        pass
    np.savez_compressed(path, **{**arrays, "facts": np.array(json.dumps(told))})
    return path


CHANGES = {
    "count doubled": lambda h: {"count": h["count"] * 2},
    "count and rows doubled": lambda h: {"count": h["count"] * 2, "n_obs": h["n_obs"] * 2, "facts": {"n_subjects": 2}},
    "count and all that counts doubled": lambda h: {
        "count": h["count"] * 2, "n_obs": h["n_obs"] * 2,
        "cells": h["cells"] * np.array([1, 1, 2, 2.0]), "facts": {"n_subjects": 2, "records": 2},
    },
    "count halved": lambda h: {"count": h["count"] * 0.5},
    "count negative": lambda h: {"count": -h["count"]},
    "products x 1000": lambda h: {"gram": h["gram"] * 1000},
    "products zero": lambda h: {"gram": h["gram"] * 0},
    "products negated": lambda h: {"gram": -h["gram"]},
    "products random": lambda h: {"gram": np.random.default_rng(1).normal(size=h["gram"].shape)},
    "one product NaN": lambda h: {"gram": np.where(h["gram"] == h["gram"].max(), np.nan, h["gram"])},
    "rows 1e9": lambda h: {"n_obs": h["n_obs"] * 0 + 1e9},
    "weights without weights": lambda h: {"log_weight": h["log_weight"] + 1.0},
    "patterns repeat": lambda h: {"seen": np.ones_like(h["seen"])},
    "patterns one-dimensional": lambda h: {"seen": h["seen"].ravel()},
    "group unknown": lambda h: {"block": h["block"] + 99},
    "cells empty": lambda h: {"cells": h["cells"][:0]},
    "cells code unknown": lambda h: {"cells": h["cells"] + np.array([7, 0, 0, 0.0])},
    "cells counts moved": lambda h: {"cells": h["cells"] + np.outer([1, -1, 0, 0, 0, 0], [0, 0, 3, 0.0])},
    "cells sums moved": lambda h: {"cells": h["cells"] + np.array([0, 0, 0, 500.0])},
    "subjects fewer": lambda h: {"facts": {"counts": [1, 1, 0, 0]}},
    "records negative": lambda h: {"facts": {"counts": [-5, -5, -1, -1]}},
    "records too many": lambda h: {"facts": {"counts": [10**6, *json.loads(str(h["facts"]))["counts"][1:]]}},
    "counts text": lambda h: {"facts": {"counts": ["a", "b", "c", "d"]}},
    "missing a list": lambda h: {"facts": {"missing": [1]}},
    "levels a list": lambda h: {"facts": {"levels": [1]}},
    "levels repeat": lambda h: {"facts": {"levels": {**LEVELS, "TRT01P": ["Placebo", "Placebo"]}}},
    "another formula": lambda h: {"facts": {"formula": "CHG ~ 1 + us(AVISIT | USUBJID)"}},
    "no formula": lambda h: {"facts": {"formula": "<script>"}},
    "another format": lambda h: {"facts": {"format": "999"}},
    "no parts": lambda h: {"facts": {"parts": []}},
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_numbers_that_contradict_each_other_are_refused(sites, tmp_path, change):
    held = dict(np.load(sites[0].save(tmp_path / "honest.npz")).items())
    changes = CHANGES[change](held)
    facts = dict(changes.pop("facts", {}))
    counts = json.loads(str(held["facts"]))["counts"]
    if "n_subjects" in facts:
        facts = {"counts": [counts[0] * (2 if facts.get("records") else 1), counts[1] * 2, *counts[2:]]}
    with pytest.raises(DataError, match=r"bad\.npz"):
        ks.MmrmStatistics.load(forged(tmp_path / "bad.npz", held, facts, **changes))


def test_a_changed_byte_is_noticed(sites, tmp_path):
    held = dict(np.load(sites[0].save(tmp_path / "honest.npz")).items())
    np.savez_compressed(tmp_path / "bad.npz", **{**held, "gram": held["gram"] * (1 + 1e-9)})
    with pytest.raises(DataError, match="digest"):
        ks.MmrmStatistics.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 but no archive", b"\x93NUMPY\x01\x00"])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match="not a file of MmrmStatistics"):
        ks.MmrmStatistics.load(tmp_path / "bad.npz")
    with pytest.raises(DataError, match="not found"):
        ks.MmrmStatistics.load(tmp_path / "absent.npz")


def test_a_small_file_cannot_ask_for_gigabytes(sites, tmp_path):
    honest = sites[0].save(tmp_path / "honest.npz")
    with zipfile.ZipFile(honest) as old, zipfile.ZipFile(tmp_path / "bad.npz", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != "seen.npy":
                new.writestr(name, old.read(name))
        with new.open("seen.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|b1", "fortran_order": False, "shape": (10**11, 3)})
    with pytest.raises(DataError, match="too large"):
        ks.MmrmStatistics.load(tmp_path / "bad.npz")


def test_no_part_is_added_twice(sites, tmp_path):
    north, south = sites
    both = north + south
    again = ks.MmrmStatistics.load(north.save(tmp_path / "north.npz"))
    renamed = ks.MmrmStatistics.load(both.save(tmp_path / "both.npz"))
    for one, two in ((north, north), (north, again), (both, again), (renamed, south)):
        with pytest.raises(DataError, match=r"north|south"):
            one + two


def test_two_files_of_one_site_need_names_of_their_own(scores):
    parts = [
        ks.MmrmStatistics.from_data(FORMULA, scores[scores["SITEID"] == k], levels=LEVELS, site="north") for k in (1, 2)
    ]
    with pytest.raises(DataError, match="north"):
        parts[0] + parts[1]


def test_the_same_rows_without_a_name_are_noticed_too(scores):
    make = lambda: ks.MmrmStatistics.from_data(FORMULA, scores[scores["SITEID"] == 1], levels=LEVELS)  # noqa: E731
    with pytest.raises(DataError, match="count twice"):
        make() + make()


def test_honest_files_add_up_to_the_fit_of_all_rows(sites, scores, tmp_path):
    loaded = [ks.MmrmStatistics.load(s.save(tmp_path / f"{k}.npz")) for k, s in enumerate(sites)]
    assert [part[0] for part in sum(loaded).parts] == ["north", "south"]
    whole = ks.mmrm(FORMULA, scores, order=LEVELS)
    np.testing.assert_allclose(sum(loaded).fit().coefficients["estimate"], whole.coefficients["estimate"], rtol=1e-8)


@pytest.mark.parametrize(
    ("formula", "levels", "weights"),
    [
        ("CHG ~ log(BASE)*AVISIT + TRT01P + cs(AVISIT | TRT01P / USUBJID)", LEVELS, None),
        ("CHG ~ 0 + TRT01P:AVISIT + BASE + us(AVISIT | USUBJID)", LEVELS, None),
        ("CHG ~ BASE + I(BASE ** 2) + TRT01P*AVISIT + toep(AVISIT | USUBJID)", LEVELS, None),
        ("CHG ~ BASE + TRT01P + us(AVISIT | USUBJID)", LEVELS, "w"),
    ],
)
def test_honest_files_of_other_models_are_read(scores, tmp_path, formula, levels, weights):
    table = scores.assign(w=1.0 + (scores["BASE"] > 30))
    made = ks.MmrmStatistics.from_data(formula, table, levels=levels, weights=weights)
    read = ks.MmrmStatistics.load(made.save(tmp_path / "a.npz"))
    assert read.fit(df="satterthwaite").loglik == made.fit(df="satterthwaite").loglik
