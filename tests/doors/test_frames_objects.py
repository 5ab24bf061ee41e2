"""What a column is made of does not matter: Decimal, objects, nullable and Arrow types; nor what is not used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import kapstats as ks
from kapstats.errors import KapstatsError
from tests.doors.frames_tables import VERBS, numbers, tables

DATA = tables(n=20)


def decimals(values: pd.Series) -> pd.Series:
    return values.map(lambda v: Decimal(repr(float(v))) if np.isfinite(v) else v).astype(object)


def objects(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), None)


def mixed(values: pd.Series) -> pd.Series:
    """NumPy scalars, Python numbers and Decimal beside each other."""
    ways: list[Callable[[Any], Any]] = [np.float64, float, lambda v: Decimal(repr(float(v))) if np.isfinite(v) else v]
    return pd.Series([ways[i % 3](v) for i, v in enumerate(values)], index=values.index, dtype=object)


def in_every_number(convert: Callable[[pd.Series], pd.Series]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda d: d.assign(**{c: convert(d[c]) for c in d.columns if pd.api.types.is_numeric_dtype(d[c].dtype)})


def arrow_decimals(frame: pd.DataFrame) -> pa.Table:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for i, field in enumerate(table.schema):
        if pa.types.is_floating(field.type) and np.isfinite(frame[field.name]).all():
            values = [Decimal(repr(v)).quantize(Decimal("1e-15")) for v in frame[field.name]]
            table = table.set_column(i, field.name, pa.array(values, pa.decimal128(25, 15)))
    return table


DRESSES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "Decimal": in_every_number(decimals),
    "object": in_every_number(objects),
    "mixed objects": in_every_number(mixed),
    "decimal128": arrow_decimals,
    "polars Decimal": lambda d: pl.from_arrow(arrow_decimals(d)),
    "Int64, Float64, string": lambda d: d.convert_dtypes(),
    "a last row of None": lambda d: pd.concat(
        [d.astype(object), pd.DataFrame([dict.fromkeys(d.columns)])], ignore_index=True
    ),
}
LEAVES_MISSING = {"missing_patterns", "baseline_table", "turnbull", "interval_cox"}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("verb", VERBS)
def test_numbers_are_numbers_in_every_dress(verb: str, dress: str) -> None:
    table, call = VERBS[verb]
    if dress == "a last row of None" and verb in LEAVES_MISSING:
        pytest.skip("a missing row is a row here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dressed = DRESSES[dress](DATA[table])
        plain, found = numbers(call(DATA[table])), numbers(call(dressed))
    pd.testing.assert_frame_equal(found, plain, check_dtype=False, check_exact=False, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", ["string", "string[pyarrow]", "category", "object"])
@pytest.mark.parametrize("model", ["andersen-gill", "pwp-total", "pwp-gap", "wlw", "lwyy"])
def test_recurrent_events_with_ids_of_every_type(model: str, dtype: str) -> None:
    rec = DATA["adrec"]
    formula = "Surv(START, STOP, EVENT) ~ TRT01P"
    plain = numbers(ks.recurrent(formula, rec, id="USUBJID", model=model))
    found = numbers(ks.recurrent(formula, rec.assign(USUBJID=rec["USUBJID"].astype(dtype)), id="USUBJID", model=model))
    pd.testing.assert_frame_equal(found, plain)


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_incidence_from_nullable_tables(backend: str) -> None:
    def call(adae: pd.DataFrame, adsl: pd.DataFrame) -> pd.DataFrame:
        return numbers(ks.incidence(adae, adsl=adsl, by="TRT01A", terms=["AEBODSYS", "AEDECOD"]))

    dressed = [DATA[k].convert_dtypes(dtype_backend=backend) for k in ("adae", "adsl")]  # type: ignore[call-overload]
    pd.testing.assert_frame_equal(call(*dressed), call(DATA["adae"], DATA["adsl"]))


UNUSED: dict[str, Any] = {
    "dicts": lambda n: [{"a": i} for i in range(n)],
    "lists": lambda n: [[i, i] for i in range(n)],
    "sets": lambda n: [{i} for i in range(n)],
    "numbers and texts": lambda n: [i if i % 2 else str(i) for i in range(n)],
    "complex": lambda n: [1j] * n,
    "arrays": lambda n: [np.arange(3) for _ in range(n)],
}


@pytest.mark.parametrize("kind", UNUSED)
@pytest.mark.parametrize("verb", VERBS)
def test_an_unused_column_of_anything_does_not_matter(verb: str, kind: str) -> None:
    table, call = VERBS[verb]
    data = DATA[table].assign(EXTRA=pd.Series(UNUSED[kind](len(DATA[table])), dtype=object))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, found = call(DATA[table]), call(data)
    pd.testing.assert_frame_equal(numbers(found), numbers(plain))
    kept = [getattr(r, "meta", None) or getattr(r.coefficients, "meta", {}) for r in (plain, found)]
    if verb not in ("baseline_table", "subgroups"):
        assert kept[0].get("data") == kept[1].get("data")


@pytest.mark.parametrize("kind", ["dicts", "lists", "sets", "arrays"])
@pytest.mark.parametrize("verb", ["cox", "kaplan_meier", "ancova", "mmrm us", "lmm"])
def test_a_used_column_of_containers_is_named(verb: str, kind: str) -> None:
    table, call = VERBS[verb]
    data = DATA[table].assign(TRT01P=pd.Series(UNUSED[kind](len(DATA[table])), dtype=object))
    with pytest.raises(KapstatsError, match=r"TRT01P.* (lists|dicts|sets|ndarrays|arrays)"):
        call(data.drop(columns="TRT01PN"))


def test_a_column_of_the_used_ones_changes_the_fingerprint() -> None:
    formula = "Surv(AVAL, EVENT) ~ TRT01P"
    plain = ks.cox(formula, DATA["adtte"]).coefficients.meta["data"]
    assert ks.cox(formula, DATA["adtte"].assign(BASE=0.0)).coefficients.meta["data"] == plain
    assert ks.cox(formula, DATA["adtte"].assign(AVAL=lambda d: d["AVAL"] + 1)).coefficients.meta["data"] != plain
