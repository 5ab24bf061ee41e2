"""The evidence from the command line's side: csv in, csv and html out, exit codes."""

import json

import pandas as pd
import pytest

import kapstats as ks
from kapstats.cli import main
from kapstats.evidence.commands import audit_file, read_claims, reproduce
from kapstats.evidence.pack import write_pack

CLAIMS = """study,arm,term,events,n,percent
abbar2022,ketamine,remission,46,83,63.0
abbar2022,placebo,remission,25,73,31.6
other,=cmd|'/c calc'!A0,nausea,10,30,33.0
"""


def test_reproduce_all_is_fine_and_lists_every_entry():
    text, code = reproduce()
    assert code == 0
    assert all(entry.id in text for entry in ks.gallery.ENTRIES)
    assert "printed numbers reproduced" in text
    said = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.startswith(("G", "C"))}
    assert {name for name, word in said.items() if word == "calibrates"} == {"G21"}


def test_reproduce_one_prints_its_table_and_writes_the_pack(tmp_path):
    text, code = reproduce(["elekt-d"], tmp_path / "pack.html")
    assert code == 0
    assert "24.2" in text
    assert (tmp_path / "pack.html").stat().st_size > 5000
    assert len(pd.read_csv(tmp_path / "pack.csv")) == 5


def test_audit_of_a_file_keeps_the_printed_digits(tmp_path):
    path = tmp_path / "claims.csv"
    path.write_text(CLAIMS)
    text, code = audit_file(path, tmp_path / "findings.csv")
    assert code == 1
    assert "3 printed lines; 3 findings" in text
    written = pd.read_csv(tmp_path / "findings.csv", dtype=str)
    assert written["percent"].tolist() == ["63.0", "31.6", "33.0"]
    assert written["arm"][2].startswith("'=")  # a spreadsheet must not run it
    audit_file(path, tmp_path / "findings.html")
    page = (tmp_path / "findings.html").read_text()
    assert "denominator" in page


def test_a_clean_file_is_fine(tmp_path):
    path = tmp_path / "claims.csv"
    path.write_text("study,events,n,percent\na,10,30,33.3\n")
    assert audit_file(path)[1] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "no header line"),
        (b"\xff\xfe\x00", "not utf-16 text"),
        (b"a,b\n1,2,3\n", "line 2 has 3 fields"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "claims.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ks.errors.DataError, match=message):
        audit_file(path)


def test_the_evidence_tables_are_complete_and_name_their_sources():
    sources = set(ks.evidence.table("sources")["study"])
    for name in ks.evidence.tables():
        table = ks.evidence.table(name)
        assert len(table) > 5
        if "checked" in table:
            shown = table[table["figures"].notna()] if name == "claims" else table  # a claim may have no figure
            assert shown["checked"].str.startswith(("yes", "secondary")).all(), name
        if "study" in table:
            assert set(table["study"]) <= sources, name
    with pytest.raises(ks.errors.DataError, match="Did you mean 'relapse'"):
        ks.evidence.table("relapses")


def test_the_pack_holds_findings_fingerprints_and_reproductions(tmp_path):
    path = tmp_path / "claims.csv"
    path.write_text(CLAIMS)
    found = ks.audit(read_claims(path))
    prints = {
        "ELEKT-D": ks.fingerprint(108, 195, 70, 170, printed=("3.9", "24.2")),
        "none": ks.fingerprint(1, 9, 2, 9, printed=(0, 1)),
    }
    page = write_pack(
        tmp_path / "pack.html", audit=found, fingerprints=prints, reproductions=[ks.gallery.run("elekt-d")]
    )
    text, rows = page.read_text(encoding="utf-8"), pd.read_csv(tmp_path / "pack.csv", dtype=str)
    assert {"Agresti-Caffo" in text or "agresti-caffo" in text, "denominator" in text, "<svg" in text} == {True}
    assert "None of" in text  # a fingerprint without a method names the nearest
    assert rows["part"].value_counts().to_dict() == {"audit": 3, "fingerprint": 3, "reproduction": 5}
    assert rows["arm"].iloc[2].startswith("'=")
    with pytest.raises(ks.errors.DataError, match="give audit="):
        write_pack(tmp_path / "empty.html")


TRIALS = "study,x1,n1,x2,n2\na,20,40,10,41\nb,15,30,9,31\nc,6,20,2,20\n"
CURVE = "time,survival,arm\n1,0.9,a\n2,0.7,a\n3,0.6,a\n1,0.8,b\n2,0.5,b\n"
RISK = "time,n_risk,arm\n0,10,a\n2,9,a\n0,10,b\n2,8,b\n"
PRINTED = "study,x1,n1,x2,n2,low,high\ndaly,60,111,42,108,2.11,28.22\nnone,1,9,2,9,0.00,1.00\n"


@pytest.fixture
def files(tmp_path):
    for name, text in {"trials": TRIALS, "curve": CURVE, "risk": RISK, "printed": PRINTED}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_pool_says_and_writes_what_meta_analysis_finds(files, capsys):
    code, out, _ = run(capsys, "pool", files / "trials.csv", "--measure", "rd", "--json", "--out", files / "p.csv")
    assert code == 0
    expected = ks.meta_analysis(pd.read_csv(files / "trials.csv"), "RD")
    assert json.loads(out)[0]["estimate"] == expected["estimate"][0]
    pd.testing.assert_frame_equal(pd.read_csv(files / "p.csv"), expected.frame, check_dtype=False)
    code, out, _ = run(capsys, "pool", files / "trials.csv", "--model", "mantel-haenszel", "--out", files / "p.html")
    assert "Mantel-Haenszel" in out
    page = (files / "p.html").read_text()
    assert {"<svg" in page, "<table" in page, "pooled" in page} == {True}


def test_pool_tells_warnings_on_the_other_stream(files, capsys):
    (files / "one.csv").write_text("study,estimate,std_error\na,1,0.5\n")
    code, out, error = run(capsys, "pool", files / "one.csv", "--json")
    assert (code, len(json.loads(out))) == (0, 2)
    assert error.startswith("warning: One study")


def test_fingerprint_of_values_typed(capsys):
    code, out, _ = run(capsys, "fingerprint", "60", "111", "42", "108", "2.11", "28.22", "--json")
    assert (code, [row["method"] for row in json.loads(out)]) == (0, ["wald"])
    assert run(capsys, "fingerprint", "60", "111", "42", "108", "2.11", "28.2", "--digits", "2")[0] == 1
    code, out, _ = run(capsys, "fingerprint", "42", "108", "60", "111", "-28.22", "-2.11", "--json")
    assert (code, json.loads(out)[0]["method"]) == (0, "wald")  # a limit below 0 is no option
    code, out, _ = run(capsys, "fingerprint", "8", "10", "44.4", "97.5")
    assert (code, "clopper-pearson" in out) == (0, True)


def test_fingerprint_of_a_file_names_the_nearest_where_there_is_none(files, capsys):
    code, out, _ = run(capsys, "fingerprint", "--csv", files / "printed.csv", "--json", "--out", files / "f.csv")
    assert code == 1
    assert [(row["line"], row["prints"]) for row in json.loads(out)] == [("1 daly", True), ("2 none", False)]
    assert len(pd.read_csv(files / "f.csv")) == 2


def test_reconstruct_gives_the_individual_times(files, capsys):
    where = ("reconstruct", files / "curve.csv", "--at-risk")
    code, _, _ = run(capsys, *where, files / "risk.csv", "--events", "a=4", "b=5", "--out", files / "ipd.csv")
    made = pd.read_csv(files / "ipd.csv")
    assert code == 0
    assert made.columns.tolist() == ["arm", "time", "event"]
    assert made.groupby("arm")["event"].agg(["size", "sum"]).to_numpy().tolist() == [[10, 4], [10, 5]]
    code, out, _ = run(capsys, *where, "10", "--method", "least-squares", "--json")
    assert (code, len(json.loads(out))) == (0, 20)


def test_pack_of_one_file(files, capsys):
    (files / "claims.csv").write_text(CLAIMS)
    code, out, _ = run(capsys, "pack", files / "claims.csv", "--out", files / "pack.html", "--reproduce", "elekt-d")
    assert (code, "3 findings" in out) == (1, True)
    parts = pd.read_csv(files / "pack.csv")["part"].value_counts()
    assert parts.to_dict() == {"reproduction": 5, "audit": 3}
    (files / "good.csv").write_text(PRINTED.splitlines()[0] + "\n" + PRINTED.splitlines()[1] + "\n")
    code, out, _ = run(capsys, "pack", files / "good.csv", "--out", files / "good.html")
    assert (code, "line 1 daly: 1 of" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pool", "{d}/none.csv"], "no such file"),
        (["pool", "{d}/curve.csv"], "needs x1 n1 x2 n2"),
        (["pool", "{d}/trials.csv", "--model", "rmel"], "Did you mean 'reml'"),
        (["pool", "{d}/trials.csv", "--measure", "RT"], "Choose one of: RD, OR, RR, AS"),
        (["pool", "{d}/one.csv", "--measure", "lgoit"], "Did you mean 'logit'"),
        (["pool", "{d}/trials.csv", "--ci", "hartungknapp"], "Did you mean 'hartung-knapp'"),
        (["pool", "{d}/trials.csv", "--level", "95"], "between 0 and 1"),
        (["fingerprint", "--csv", "{d}/curve.csv"], "x1 n1 x2 n2 low high"),
        (["fingerprint", "--csv", "{d}/gap.csv"], "row 1: n2 missing"),
        (["fingerprint", "1", "2", "3"], "3 are given"),
        (["fingerprint", "9", "8", "0.1", "0.2"], "9 of 8 is no count"),
        (["fingerprint", "1", "x", "0.1", "0.2"], "n1: 'x' is no count"),
        (["fingerprint", "1", "9", "low", "0.2", "--digits", "1"], "'low' is no number"),
        (["reconstruct", "{d}/curve.csv", "--at-risk", "{d}/none.csv"], "no such file"),
        (["reconstruct", "{d}/curve.csv", "--at-risk", "10", "--events", "c=4"], "no group 'c'"),
        (["reconstruct", "{d}/curve.csv", "--at-risk", "10", "--events", "some"], "GROUP=N"),
        (["reconstruct", "{d}/curve.csv", "--at-risk", "10", "--method", "guyto"], "Did you mean 'guyot'"),
        (["reconstruct", "{d}/text.csv", "--at-risk", "10"], "survival holds text in 1 rows (high)"),
        (["reconstruct", "{d}/trials.csv", "--at-risk", "10"], "no column 'time'"),
        (["pack", "{d}/curve.csv"], "no column to judge"),
        (["pack", "{d}/printed.csv", "--reproduce", "elektd"], "Did you mean 'elekt-d'"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(files, capsys, arguments, said):
    (files / "one.csv").write_text("x,n\n1,9\n2,9\n")
    (files / "gap.csv").write_text("x1,n1,x2,n2,low,high\n1,9,2,,0.1,0.2\n")
    (files / "text.csv").write_text("time,survival\n1,0.9\n2,high\n")
    before = sorted(files.iterdir())
    code, out, error = run(capsys, *(a.format(d=files) for a in arguments), "--out", files / "made.html")
    assert (code, out) == (2, "")
    assert said in error
    assert "unexpected" not in error
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize("out", ["x.txt", "missing/x.html"])
@pytest.mark.parametrize("command", ["pool", "audit", "reproduce", "pack"])
def test_a_place_that_cannot_be_written_is_told_first(files, capsys, command, out):
    what = "elekt-d" if command == "reproduce" else files / "trials.csv"
    code, _, error = run(capsys, command, what, "--out", files / out)
    assert code == 2
    assert str(files / out) in error


def test_a_misspelt_option_has_its_nearest(files, capsys, monkeypatch):
    arguments = ["pool", str(files / "trials.csv"), "--mesure", "RD"]
    monkeypatch.setattr("sys.argv", ["kapstats", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Did you mean '--measure'" in capsys.readouterr().err
