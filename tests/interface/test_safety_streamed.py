"""Counts over partitioned files equal those of one table."""

import numpy as np
import pandas as pd
import pytest

import kapstats as ks
from kapstats.errors import DataError
from kapstats.safety.streamed import count_partitions

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def tables():
    generator = np.random.default_rng(1)
    n, k = 400, 3000
    adsl = pd.DataFrame({"USUBJID": [f"S{i:04d}" for i in range(n)], "TRT01AN": generator.integers(0, 3, n)})
    adsl = adsl.assign(TRT01A=adsl.TRT01AN.map({0: "Placebo", 1: "IV", 2: "Oral"}), SAFFL="Y")
    adsl.loc[:9, "SAFFL"] = "N"
    term = generator.integers(0, 12, k)
    adae = pd.DataFrame(
        {
            "USUBJID": adsl.USUBJID.to_numpy()[generator.integers(0, n, k)],
            "AEBODSYS": np.array([f"Soc {i % 3}" for i in range(12)], dtype=object)[term],
            "AEDECOD": np.array([f"Term {i}" for i in range(12)], dtype=object)[term],
            "TRTEMFL": np.where(generator.random(k) < 0.9, "Y", "N"),
        }
    )
    adae.loc[::97, "AEDECOD"] = None
    return adsl, adae


def write(adae, folder, parts):
    number = adae.USUBJID.str[1:].astype(int) % parts
    for part, rows in adae.groupby(number):
        rows.to_parquet(folder / f"part-{part}.parquet", index=False)


@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.filterwarnings("ignore::kapstats.errors.KapstatsWarning")
def test_partitions_equal_one_table(tables, tmp_path, parts):
    adsl, adae = tables
    write(adae, tmp_path, parts)
    whole = ks.incidence(adae, adsl, by="TRT01A")
    streamed = count_partitions(tmp_path, adsl, by="TRT01A")
    pd.testing.assert_frame_equal(streamed.frame, whole.frame)
    pd.testing.assert_frame_equal(streamed.compare().frame, whole.compare().frame)
    assert streamed.table(min_percent=5).rows == whole.table(min_percent=5).rows


def test_a_subject_in_two_files_is_an_error(tables, tmp_path):
    adsl, adae = tables
    adae.iloc[:1500].to_parquet(tmp_path / "a.parquet", index=False)
    adae.iloc[1500:].to_parquet(tmp_path / "b.parquet", index=False)
    with pytest.raises(DataError, match="Partition the files by subject"):
        count_partitions(tmp_path, adsl)


def test_missing_files_and_columns(tables, tmp_path):
    adsl, adae = tables
    with pytest.raises(DataError, match="no parquet files"):
        count_partitions(tmp_path, adsl)
    adae.drop(columns="TRTEMFL").to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(DataError, match="TRTEMFL"):
        count_partitions(tmp_path, adsl)
