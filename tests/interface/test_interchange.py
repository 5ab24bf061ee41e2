"""Results in the hands of other programs: Arrow, pandas, polars, notebooks, files."""

from __future__ import annotations

import io
import json

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kapstats as ks
from kapstats.errors import DataError, FormulaError


@pytest.fixture(scope="module")
def result():
    scores = ks.datasets.load("kap-parallel").adqs.query("PARAMCD == 'MADRS' and AVISIT == 'Day 28'")
    return ks.ancova("CHG ~ BASE + TRT01P", scores).lsmeans("TRT01P").contrast()


def test_other_tables_take_a_result(result):
    frame = result.to_frame()
    assert pl.DataFrame(result).columns == frame.columns.tolist()
    assert pa.table(result).column_names == frame.columns.tolist()
    pd.testing.assert_frame_equal(pd.DataFrame(result), frame, check_dtype=False)
    assert pl.DataFrame(result)["estimate"].to_list() == frame["estimate"].tolist()
    assert pd.concat([pd.DataFrame(result)] * 2).shape == (2 * len(frame), frame.shape[1])
    pd.testing.assert_frame_equal(result.tidy(), frame)


def test_a_notebook_shows_html_and_text(result):
    shown = result._repr_mimebundle_()
    assert shown["text/html"].startswith("<")
    assert shown["text/plain"] == repr(result)


READ = {
    "csv": lambda path: pd.read_csv(path),
    "xlsx": lambda path: pd.read_excel(path),
    "parquet": lambda path: pq.read_table(path).to_pandas(),
    "json": lambda path: pd.DataFrame(json.loads(path.read_text())),
}


@pytest.mark.parametrize("ending", READ)
def test_numbers_are_saved_with_full_precision(result, tmp_path, ending):
    path = result.save(tmp_path / f"out.{ending}")
    again = READ[ending](path)
    pd.testing.assert_frame_equal(again, result.to_frame(), check_dtype=False, rtol=1e-14)


BEGINS = {"html": "<", "md": "**", "txt": "Contrasts", "tex": "\\", "rtf": "{\\rtf"}


@pytest.mark.parametrize(("ending", "begins"), BEGINS.items())
def test_documents_hold_the_table_as_it_prints(result, tmp_path, ending, begins):
    text = result.save(str(tmp_path / f"out.{ending}")).read_text(encoding="utf-8")
    assert text.lstrip().startswith(begins)
    assert "KAP IV" in text


def test_word(result, tmp_path):
    docx = pytest.importorskip("docx")
    made = docx.Document(io.BytesIO(result.save(tmp_path / "out.docx").read_bytes()))
    assert any("KAP IV" in cell.text for table in made.tables for row in table.rows for cell in row.cells)


def test_an_unknown_ending_and_an_absent_folder_are_named(result, tmp_path):
    with pytest.raises(FormulaError, match="Did you mean 'xlsx'"):
        result.save(tmp_path / "out.xlss")
    with pytest.raises(DataError, match="cannot be written"):
        result.save(tmp_path / "absent" / "out.csv")
