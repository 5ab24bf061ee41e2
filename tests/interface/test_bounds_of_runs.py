"""Numbers of replicates and subjects, seeds and weights that cannot be are told as such by the library."""

import re

import numpy as np
import pytest

import kapstats as ks
from kapstats.inference.contrasts import weights_of
from kapstats.pipeline.plan import parse
from kapstats.simulation.scenario import text


@pytest.mark.parametrize("options", [{"replicates": 0}, {"replicates": 5, "seed": -1}])
def test_certify_needs_replicates_and_a_seed(options):
    with pytest.raises(ks.errors.DataError, match="at least 1 replicate"):
        ks.certify("risk_difference", "kap-parallel", **options)


@pytest.mark.parametrize("options", [{"n": -5}, {"seed": -1}])
def test_simulate_takes_nothing_negative(options):
    with pytest.raises(ks.errors.DataError, match="negative"):
        ks.simulate("kap-parallel", **options)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subjects": "many"}, "subjects = 'many': expected a whole number"),
        ({"subjects": True}, "expected a whole number"),
        ({"arms": 3}, "expected a list of the table Arm"),
        ({"arms": [{"label": 1, "code": 0}]}, "arms.label = 1: expected text"),
        ({"dropout": {"gap": "x"}}, "dropout.gap = 'x': expected a number"),
        ({"people": 3}, "expected the table People"),
    ],
)
def test_a_scenario_holds_what_its_fields_say(changes, said):
    with pytest.raises(ks.errors.DataError, match=re.escape(said)):
        ks.simulate("kap-parallel", **changes)


def test_a_scenario_file_is_read_each_time(tmp_path):
    path = tmp_path / "mine.toml"
    for n in (30, 40):
        path.write_text(text("kap-parallel").replace("subjects = 240", f"subjects = {n}"))
        assert len(ks.simulate(path, truth=False).adsl) == len(ks.simulate(str(path), truth=False).adsl) == n
    path.write_text("a." * 100_000 + "a = 1")
    with pytest.raises(ks.errors.DataError, match="more than 50 parts"):
        ks.simulate(path)
    with pytest.raises(ks.errors.DataError, match="No such file"):
        ks.simulate(tmp_path / "none.toml")


def test_weights_by_level():
    names, c = weights_of({"x": {"KAP IV": 1, "Placebo": -1}}, ["Placebo", "KAP IM", "KAP IV"])
    np.testing.assert_array_equal(c, [[-1.0, 0.0, 1.0]])
    assert names == ["x"]
    with pytest.raises(ks.errors.FormulaError, match="Did you mean 'KAP IV'"):
        weights_of({"x": {"KAP IW": 1}}, ["Placebo", "KAP IV"])


@pytest.mark.parametrize("kind", ["[]", "[[1]]", "{}", "1", "true", "2024-01-01"])
def test_a_kind_of_another_type_is_told(kind):
    with pytest.raises(ks.errors.FormulaError, match="unknown kind"):
        parse(f'[study]\ntitle = "T"\n[[analysis]]\nkind = {kind}\nname = "a"\ntitle = "A"\n')
