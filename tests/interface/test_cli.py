"""The command line: exit codes, streams, what is written, and how soon help comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kapstats.cli import main, parser

PLAN = """
[study]
title = "Small"
[[analysis]]
kind = "survival"
name = "relapse"
title = "Time to relapse"
formula = "Surv(AVAL, CNSR == 0) ~ TRT01P"
show = ["logrank"]
"""


@pytest.fixture
def adam(tmp_path: Path) -> Path:
    folder = tmp_path / "adam"
    folder.mkdir()
    arms = {"TRT01P": ["Placebo", "KAP IV"] * 6, "TRT01PN": [0, 1] * 6}
    adsl = pd.DataFrame({"USUBJID": [f"S{i:02d}" for i in range(12)], **arms, "SAFFL": "Y"})
    adsl.to_csv(folder / "adsl.csv", index=False)
    adsl.assign(AVAL=range(3, 15), CNSR=[0, 1, 0, 0] * 3, PARAMCD="R").to_csv(folder / "adtte.csv", index=False)
    (tmp_path / "plan.toml").write_text(PLAN)
    return folder


def test_run_writes_and_says(adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "plan.toml"), "--data", str(adam), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert str(out / "report.html") in said.out
    assert "\r" not in said.err
    assert {"report.html", "manifest.json", "run.log", "results", "figures"} == {p.name for p in out.iterdir()}
    manifest = json.loads((out / "manifest.json").read_text())
    assert [f["name"] for f in manifest["files"]] == ["adsl.csv", "adtte.csv"]


def test_an_error_is_json_too_where_json_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for asked in (["run", str(tmp_path / "none.toml")], ["check", str(tmp_path / "none")], ["pool", "none.csv"]):
        assert main([*asked, "--json"]) == 2
        said = capsys.readouterr()
        found = json.loads(said.out)
        assert found["error"] in ("DataError", "FormulaError", "FileNotFoundError")
        assert f"{asked[0]}: {found['message']}" in said.err
        assert main(asked) == 2
        assert capsys.readouterr().out == ""


def test_run_as_json(adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(tmp_path / "plan.toml"), "--data", str(adam), "--out", str(tmp_path / "out"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["report"].endswith("report.html")
    assert said["answers"]["relapse"][0]["lines"].keys() == {"Placebo", "KAP IV"}


def test_strict_turns_warnings_into_an_exit_code(adam: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(adam / "adtte.csv")
    frame.assign(CNSR=1).to_csv(adam / "adtte.csv", index=False)
    call = ["run", str(tmp_path / "plan.toml"), "--data", str(adam), "--out", str(tmp_path / "out")]
    assert main(call) == 0
    assert main([*call, "--strict"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan.toml": PLAN.replace("show", "shwo")}, "line 9"),
        ({"plan.toml": PLAN.replace("TRT01P", "TRT01Q")}, "TRT01"),
        ({"plan.toml": PLAN.replace("CNSR == 0", "CNSR")}, "CNSR"),
        ({"plan.toml": "\x00"}, "plan.toml"),
        ({"adam/adtte.csv": "USUBJID,AVAL\nS01,1\nS02"}, "adtte"),
        ({"adam/adtte.csv": ""}, "adtte"),
    ],
)
def test_bad_input_is_two_and_writes_nothing(
    adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], message: str
) -> None:
    for name, text in change.items():
        (tmp_path / name).write_text(text)
    assert main(["run", str(tmp_path / "plan.toml"), "--data", str(adam), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert {p.name for p in tmp_path.iterdir()} == {"adam", "plan.toml"}


def test_an_encoding_can_be_named(adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("adsl", "adtte"):
        path = adam / f"{name}.csv"
        path.write_bytes(path.read_text().replace("KAP IV", "Kétamine").encode("cp1252"))
    call = ["run", str(tmp_path / "plan.toml"), "--data", str(adam), "--out", str(tmp_path / "out")]
    assert main(call) == 2
    assert "--encoding cp1252" in capsys.readouterr().err
    assert main([*call, "--encoding", "cp1252"]) == 0
    assert "Kétamine" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert main(["check", str(adam), "--encoding", "cp1252"]) == 0


NOWHERE = [
    ["run", "no-such-plan"],
    ["run", "--data", "no-such-folder"],
    ["check", "nowhere"],
    ["init", "nowhere"],
    ["diff", "a", "b"],
    ["simulate", "kap-paralel", "--out", "x"],
    ["audit", "nowhere.csv"],
    ["reproduce", "elekt-e"],
]


@pytest.mark.parametrize("arguments", NOWHERE)
def test_what_is_not_there_is_two(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"kapstats {arguments[0]}: ")
    assert list(tmp_path.iterdir()) == []


def test_init_check_and_diff(adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "first.toml"
    assert main(["init", str(adam), "--out", str(plan)]) == 0
    assert main(["init", str(adam), "--out", str(plan)]) == 2
    outs = [str(tmp_path / name) for name in "ab"]
    for out in outs:
        assert main(["run", str(plan), "--data", str(adam), "--out", out]) == 0
    assert main(["diff", *outs]) == 0
    table = Path(outs[1]) / "results/time-r-medians.csv"
    table.write_text(table.read_text().replace("Placebo,0.5,6", "Placebo,0.5,7"))
    assert main(["diff", *outs]) == 1
    assert "time-r-medians" in capsys.readouterr().out
    assert main(["check", str(adam)]) == 0
    frame = pd.read_csv(adam / "adtte.csv")
    frame.assign(AVAL=-1).to_csv(adam / "adtte.csv", index=False)
    capsys.readouterr()
    assert main(["check", str(adam), "--json"]) == 1
    assert "AVAL" in {finding["variable"] for finding in json.loads(capsys.readouterr().out)}


def test_simulate_writes_a_trial_that_runs(tmp_path: Path) -> None:
    folder = tmp_path / "sim"
    assert main(["simulate", "kap-parallel", "--out", str(folder), "--subjects", "60", "--seed", "3"]) == 0
    assert len(pd.read_csv(folder / "adsl.csv")) == 60
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "keep.txt").write_text("x")
    assert main(["simulate", "kap-parallel", "--out", str(mine)]) == 2


def test_every_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    evidence = {"audit", "fingerprint", "pool", "reconstruct", "reproduce", "pack"}
    assert set(commands) == {"run", "check", "init", "simulate", "diff", "certify", *evidence}
    for name, command in commands.items():
        text = command.format_help()
        assert len(text) > 200, name
        assert all(action.help for action in command._actions), name
    assert main([]) == 0
    assert "exit codes" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from kapstats.cli import parser; parser().format_help();"
        "print([m for m in ('numpy', 'pandas', 'scipy', 'matplotlib', 'formulaic', 'narwhals') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_two_processes_write_the_same_bytes(adam: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("one", "two")]
    for seed, out in enumerate(outs):
        call = [
            sys.executable,
            "-m",
            "kapstats",
            "run",
            str(tmp_path / "plan.toml"),
            "--data",
            str(adam),
            "--out",
            str(out),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(call, check=True, capture_output=True, env=environment)
    first, second = ({p.relative_to(o): p.read_bytes() for p in o.rglob("*") if p.is_file()} for o in outs)
    assert first == second


def test_a_fault_of_ours_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("kapstats.pipeline.run.run", broken)
    assert main(["run", "--out", str(tmp_path / "out")]) == 2
    assert "unexpected ZeroDivisionError: deep inside" in capsys.readouterr().err
    monkeypatch.setenv("KAPSTATS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["run", "--out", str(tmp_path / "out")])


def test_certify_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certify", "mmrm", "kap-parallel", "--replicates", "10", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"estimand", "truth", "bias", "coverage"} <= set(rows[0])
    assert main(["certify", "mrmm", "kap-parallel", "--replicates", "10"]) == 2


def test_audit_and_reproduce(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = tmp_path / "claims.csv"
    claims.write_text("study,events,n,percent\nright,10,40,25.0\n")
    assert main(["audit", str(claims)]) == 0
    claims.write_text("study,events,n,percent\nright,10,40,25.0\nwrong,10,40,27.0\n")
    assert main(["audit", str(claims), "--out", str(tmp_path / "found.csv")]) == 1
    assert "wrong" in capsys.readouterr().out
    assert (tmp_path / "found.csv").exists()
    assert main(["reproduce", "elekt-d"]) == 0
    assert "reproduced to their last digit" in capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> object:
    main([str(a) for a in (*arguments, "--json")])
    return json.loads(capsys.readouterr().out)


def test_every_command_speaks_json(adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "drawn.toml"
    assert as_json(capsys, "init", adam, "--out", plan) == {"plan": str(plan), "text": plan.read_text()}
    said = as_json(capsys, "simulate", "kap-parallel", "--subjects", 12, "--out", tmp_path / "drawn")
    assert isinstance(said, dict)
    assert said["subjects"] == 12
    assert {"adsl.csv", "truth.json"} <= set(said["files"])
    (tmp_path / "claims.csv").write_text("study,events,n,percent\nwrong,10,40,27.0\n")
    (finding,) = as_json(capsys, "audit", tmp_path / "claims.csv")  # type: ignore[misc]
    assert finding["check"] == "percent"
    rows = as_json(capsys, "reproduce", "elekt-d")
    assert isinstance(rows, list)
    assert {row["id"] for row in rows} == {"elekt-d"}
    assert all(row["agrees"] for row in rows if row["kind"] == "exact")
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert all("--json" in command.format_help() for command in commands.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["run", "--dta", "x"], "Did you mean '--data'?"),
        (["simulate", "kap-parallel", "--out", "o", "--subjects", "0"], "at least 1"),
        (["simulate", "kap-parallel", "--out", "o", "--seed", "-1"], "at least 0"),
        (["certify", "mmrm", "--replicates", "0"], "at least 1"),
        (["certify", "mmrm", "--workers", "none"], "whole number"),
        (["diff", "a", "b", "--tolerance", "nan"], "at least 0"),
    ],
)
def test_what_is_misspelt_or_out_of_range_is_said_at_once(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kapstats", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "kap-parallel", "--subjects", "4", "--out", "{file}/sub"],
        ["reproduce", "elekt-d", "--out", "{missing}/page.html"],
        ["certify", "kaplan_meier", "--replicates", "2", "--out", "{file}"],
        ["init", "{adam}", "--out", "{missing}/plan.toml"],
        ["audit", "{adam}"],
        ["diff", "{adam}", "{adam}"],
    ],
)
def test_places_that_cannot_be_used_are_named(
    arguments: list[str], adam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    places = {"file": tmp_path / "file", "missing": tmp_path / "missing", "adam": adam}
    assert main([a.format(**places) for a in arguments]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said
    assert "unexpected" not in said
    assert said.count("\n") == 1


def test_every_help_shows_examples_that_can_be_parsed() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for name, command in commands.items():
        examples = [line.split() for line in command.format_help().splitlines() if line.startswith("  kapstats ")]
        assert examples, name
        for _, *words in examples:
            typed = [w for w in words if w not in ("|", "jq", ".answers", ">", "findings.json")]
            gap = next((i for i, w in enumerate(typed) if w in SENTENCES), len(typed))
            assert parser().parse_args(typed[:gap]).command == typed[0]


#: the first words of what is said beside an example
SENTENCES = {"the", "your", "exit", "analyse", "one", "every", "tables", "to", "then:"}
