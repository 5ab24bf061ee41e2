"""The evidence from the command line's side: csv in, csv and html out, exit codes."""

import pandas as pd
import pytest

import kapstats as ks
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


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"", "no csv"), (b"\xff\xfe\x00", "no csv")])
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
