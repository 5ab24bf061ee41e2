"""Formulas: what R's model.matrix gives (R 4.2.2), what is refused, and what is said about it."""

import numpy as np
import pandas as pd
import pytest

from kapstats.errors import DataError, FormulaError, KapstatsWarning
from kapstats.formula import design, expressions, grid, split

DATA = pd.DataFrame(
    {
        "arm": ["P", "K", "K", "P", "K", "P"],
        "sex": ["F", "F", "M", "M", "F", "M"],
        "x": [1.0, 2.0, 3.5, 4.0, 5.0, 7.0],
        "day": [1, 7, 1, 7, 1, 7],
    }
)
ORDER = {"arm": ["P", "K"], "sex": ["F", "M"]}


@pytest.mark.parametrize(
    ("fixed", "names"),
    [
        ("x*sex + arm*sex", ["(Intercept)", "x", "sexM", "armK", "x:sexM", "sexM:armK"]),
        ("0 + arm + sex", ["armP", "armK", "sexM"]),
        ("arm:sex", ["(Intercept)", "armP:sexF", "armK:sexF", "armP:sexM", "armK:sexM"]),
        ("arm/sex", ["(Intercept)", "armK", "armP:sexM", "armK:sexM"]),
        ("arm + x:arm", ["(Intercept)", "armK", "armP:x", "armK:x"]),
        ("C(day) - 1", ["C(day)1", "C(day)7"]),
        ("I(x**2) + log(x)", ["(Intercept)", "I(x ** 2)", "log(x)"]),
    ],
)
def test_columns_are_coded_and_named_as_in_r(fixed, names):
    built = design.build(fixed, DATA, order=ORDER)
    assert list(built.names) == names
    assert built.X.shape == (6, len(names))


def test_numeric_column_named_categorical_is_a_factor():
    assert design.build("day", DATA, categorical=["day"]).names == ("(Intercept)", "day7")
    assert design.build("day", DATA).names == ("(Intercept)", "day")


@pytest.mark.parametrize("fixed", ["x*arm", "poly(x, 2) + sex", "bs(x, df=4)", "cr(x, df=3)", "I(x > 2)*sex"])
def test_spec_gives_the_same_rows_again(fixed):
    built = design.build(fixed, DATA, order=ORDER)
    np.testing.assert_allclose(built.spec.matrix(DATA.iloc[[3, 1]]), built.X[[3, 1]], atol=1e-12)


def test_raw_text_factor_warns_once_and_names_the_reference():
    with pytest.warns(KapstatsWarning, match=r"arm: reference 'K'; sex: reference 'F'") as caught:
        built = design.build("arm + sex", DATA)
    assert len(caught) == 1
    assert built.warnings


def test_companion_column_orders_without_warning(recwarn):
    built = design.build("arm", DATA.assign(armN=DATA["arm"].map({"P": 0, "K": 1})))
    assert built.names == ("(Intercept)", "armK")
    assert not recwarn.list


def test_unseen_level_is_an_error():
    built = design.build("arm", DATA, order=ORDER)
    with pytest.raises(DataError, match=r"level 'Z' was not in the data of the fit\. Its levels: P, K"):
        built.spec.matrix(DATA.assign(arm="Z"))


def test_aliased_columns_are_found_in_order():
    twice = DATA.assign(z=2 * DATA["x"] - 1)
    assert design.build("x + z + sex", twice, order=ORDER).aliased.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x')",
        "x.__class__",
        "(lambda: 1)()",
        "[1, 2][0]",
        "eval('1')",
        "x if x else 1",
        "f'{x}'",
    ],
)
def test_no_code_is_ever_evaluated(text):
    with pytest.raises((FormulaError, DataError)):
        expressions.evaluate(text, DATA)


@pytest.mark.parametrize("text", ["(x + day)**50", "x" * 30_000, "x + 2", "x~", "a + (b", "", "x +"])
def test_unreadable_right_hand_sides_are_refused(text):
    with pytest.raises((FormulaError, DataError)):
        design.build(split.parse("x ~ " + text).fixed, DATA)


def test_nearest_name_is_offered():
    with pytest.raises(DataError, match="Did you mean 'sex'"):
        design.build("sexx", DATA)
    with pytest.raises(DataError, match="holds text"):
        expressions.evaluate("log(arm)", DATA)
    with pytest.raises(DataError, match=r"1 complete rows give no finite number \(first rows 0\)"):
        expressions.evaluate("log(x - 1)", DATA)


def test_expressions():
    frame = DATA.assign(arm=pd.Categorical(DATA["arm"]), **{"odd name": DATA["x"]})
    assert expressions.evaluate("`odd name` ^ 2 / 2", frame)[1] == 2.0
    assert expressions.evaluate("arm == 'K'", frame).tolist() == [0, 1, 1, 0, 1, 0]
    assert expressions.evaluate("(x > 2) & (day == 1)", frame).tolist() == [0, 0, 1, 0, 1, 0]
    with pytest.raises(FormulaError, match="compares text with a number"):
        expressions.evaluate("arm == 1", frame)


def test_missing_rows_are_counted_by_column():
    rows, missing = expressions.complete_rows(DATA.assign(x=[1, None, 3, None, 5, 6]), ["log(x)", "arm"])
    assert rows.tolist() == [0, 2, 4, 5]
    assert missing == {"x": 2}


def test_special_terms():
    f = split.parse("y ~ a*b + us(V | G / S) + offset(log(t))")
    assert (f.fixed, f.covariance, f.offset) == ("a*b", split.Covariance("us", ("V",), "G", "S"), ("log(t)",))
    f = split.parse("y ~ t + (t || g) + (1 | a/b) + (0 + x | c:d)")
    assert f.random == (
        split.Random("t", ("g",), False),
        split.Random("1", ("a",), True),
        split.Random("1", ("a", "b"), True),
        split.Random("0 + x", ("c", "d"), True),
    )
    f = split.parse("Surv(a, b, type='interval2') ~ x + strata(s, `t u`) + cluster(id) + frailty(id, 'lognormal')")
    assert f.response == split.Surv(("a", "b"), "interval2")
    assert (f.strata, f.cluster, f.frailty) == (("s", "t u"), "id", split.Frailty("id", "lognormal"))
    assert split.parse("y ~ us(V | S)").fixed == "1"
    assert split.parse("y ~ 0 + a + sp_exp(u, v | S)").covariance.coordinates == ("u", "v")


@pytest.mark.parametrize(
    "text",
    ["y ~ x*strata(s)", "y ~ us(V)", "y ~ (1 |)", "Surv(a) ~ x", "Surv(a, b, kind='x') ~ x", "y ~ a - strata(s)"],
)
def test_misused_special_terms_are_refused(text):
    with pytest.raises(FormulaError):
        split.parse(text)


def test_weights_of_the_reference_grid():
    built = design.build("arm + sex", DATA, order=ORDER)
    equal = grid.reference_grid(built, DATA, ["arm"]).L
    assert equal.tolist() == [[1, 0, 0.5], [1, 1, 0.5]]
    skewed = DATA.assign(sex=["F", "F", "F", "M", "F", "F"])
    built = design.build("arm + sex", skewed, order=ORDER)
    proportional = grid.reference_grid(built, skewed, ["arm"], weights="proportional").L
    np.testing.assert_allclose(proportional[:, 2], 1 / 6)
    observed = grid.reference_grid(built, skewed, ["arm"], weights="observed").L
    np.testing.assert_allclose(observed, proportional)


def test_reference_grid_values():
    built = design.build("arm*x", DATA, order=ORDER)
    found = grid.reference_grid(built, DATA, ["arm", "x"], at={"x": [1, 2]})
    assert found.frame.to_numpy().tolist() == [["P", 1.0], ["K", 1.0], ["P", 2.0], ["K", 2.0]]
    with pytest.raises(FormulaError, match="Did you mean 'arm'"):
        grid.reference_grid(built, DATA, ["arms"])


def test_non_estimable_cells_are_told_from_estimable_ones():
    empty = DATA[~((DATA["arm"] == "K") & (DATA["sex"] == "M"))]
    built = design.build("arm*sex", empty, order=ORDER)
    found = grid.reference_grid(built, empty, ["arm", "sex"])
    ok = grid.estimable(found.L, built)
    assert dict(zip(map(tuple, found.frame.to_numpy()), ok.tolist(), strict=True)) == {
        ("P", "F"): True,
        ("K", "F"): True,
        ("P", "M"): True,
        ("K", "M"): False,
    }
