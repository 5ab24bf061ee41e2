"""Every malformed input gives the error it was promised, and no other kind of failure."""

import re
import warnings
from pathlib import Path

import pytest

import kapstats as ks
from kapstats.cli import main
from tests.interface.malformed import ADQS, CASES, FINDINGS, GOOD, text


@pytest.mark.parametrize("name", CASES)
def test_the_promised_error(tmp_path, name):
    write, said = CASES[name]
    write(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ks.errors.DataError, match=said):
            ks.read_adam(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


PLAN = """
[study]
title = "Malformed"

[[analysis]]
kind = "baseline"
name = "baseline"
title = "Subjects at baseline"

[[analysis]]
kind = "mmrm"
name = "change"
title = "Change"
formula = "CHG ~ BASE + TRT01P*AVISIT + us(AVISIT | USUBJID)"
"""
FATAL = {"1e300": "beyond 1e12", "infinity": "infinite"}


def held(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", [*CASES, *FATAL])
def test_the_command_line_says_it_exits_with_two_and_writes_nothing(tmp_path, capsys, name):
    (tmp_path / "plan.toml").write_text(PLAN)
    folder = tmp_path / "data"
    folder.mkdir()
    write, said = CASES[name] if name in CASES else (FINDINGS[name][0], FATAL[name])
    write(folder)
    before = held(tmp_path)
    assert main(["run", str(tmp_path / "plan.toml"), "--data", str(folder), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert re.search(said, told.err)
    assert told.err.startswith("kapstats run: ")
    assert "told better" not in told.err
    assert told.out == ""
    assert held(tmp_path) == before


def test_there_are_enough_of_them():
    assert len(CASES) + len(FATAL) >= 60


@pytest.mark.parametrize("name", FINDINGS)
def test_the_promised_finding(tmp_path, name):
    write, rule = FINDINGS[name]
    write(tmp_path)
    assert len(ks.read_adam(tmp_path).check().filter(rule=rule)) >= 1


def test_the_good_folder_is_good(tmp_path):
    text(GOOD)(tmp_path)
    trial = ks.read_adam(tmp_path)
    assert len(trial.check()) == 0
    assert trial.adqs["AVAL"].tolist() == ADQS["AVAL"].tolist()


@pytest.mark.parametrize("path", ["nowhere", "file.csv"])
def test_a_folder_that_is_none(tmp_path, path):
    (tmp_path / "file.csv").write_text("x")
    with pytest.raises(ks.errors.DataError, match="takes the folder"):
        ks.read_adam(tmp_path / path)


def test_a_file_of_an_unknown_ending(tmp_path):
    (tmp_path / "adsl.xlsx").write_text("x")
    with pytest.raises(ks.errors.DataError, match=r"ending '\.xlsx' is not read"):
        ks.Trial(adsl=tmp_path / "adsl.xlsx")
    with pytest.raises(ks.errors.DataError, match=r"no such file\. Did you mean 'adsl\.xlsx'"):
        ks.Trial(adsl=tmp_path / "adsl.xls")
