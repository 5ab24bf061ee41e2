"""Readers on damaged bytes: the whole table, or a DataError; never part of it, never another exception."""

import io
import struct
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kapstats.data.files import READERS, read_table
from kapstats.data.xport import ibm_to_float
from kapstats.errors import DataError

FRAME = pd.DataFrame(
    {"USUBJID": [f"{i:03d}" for i in range(40)], "AVAL": np.linspace(-3, 60, 40), "AVISIT": ["Day 7", "Baseline"] * 20}
)
SETTINGS = settings(derandomize=True, max_examples=40, deadline=None)


def written(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"adqs{suffix}"
        if suffix == ".parquet":
            FRAME.to_parquet(path)
        elif suffix == ".csv":
            FRAME.to_csv(path, index=False)
        else:
            pyreadstat.write_xport(FRAME, str(path), file_format_version=8 if suffix == ".v8.xpt" else 5)
        return path.read_bytes()


BYTES = {suffix: written(suffix) for suffix in (".csv", ".parquet", ".xpt", ".v8.xpt")}


def read(raw: bytes, suffix: str) -> pd.DataFrame | None:
    """The table, or None where a DataError was raised."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"adqs{suffix}"
        path.write_bytes(raw)
        try:
            return read_table(path)
        except DataError:
            return None


@pytest.mark.parametrize("suffix", [".parquet", ".xpt", ".v8.xpt"])
@SETTINGS
@example(share=0.6)
@given(share=st.floats(0, 0.999))
def test_a_binary_file_cut_anywhere_is_never_read_in_part(suffix, share):
    raw = BYTES[suffix]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        frame = read(raw[: int(share * len(raw))], suffix)
    if frame is not None and frame.empty:  # version 5 states no number of rows: cut behind its header it looks empty
        assert suffix == ".xpt"
        assert any("cut right behind its header" in str(w.message) for w in said)
    elif frame is not None:  # only the padding of the last record may be missing
        pd.testing.assert_frame_equal(frame.reset_index(drop=True), read(raw, suffix), check_dtype=False)


@SETTINGS
@given(share=st.floats(0, 0.999))
def test_a_csv_cut_inside_a_field_count_is_told(share):
    raw = BYTES[".csv"]
    cut = raw[: int(share * len(raw))]
    frame = read(cut, ".csv")
    lines = cut.decode().splitlines()
    if len(lines) > 1 and lines[-1].count(",") != 2:
        assert frame is None
    elif frame is not None:
        assert len(frame) == len(lines) - 1


@pytest.mark.parametrize("suffix", sorted(READERS))
@SETTINGS
@given(raw=st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_a_data_error(suffix, raw):
    frame = read(raw, suffix)
    assert frame is None or isinstance(frame, pd.DataFrame)


@pytest.mark.parametrize("suffix", [".xpt", ".v8.xpt", ".parquet"])
@SETTINGS
@given(where=st.floats(0, 1), byte=st.integers(0, 255))
def test_one_wrong_byte_raises_nothing_but_a_data_error(suffix, where, byte):
    raw = bytearray(BYTES[suffix])
    raw[int(where * (len(raw) - 1))] = byte
    frame = read(bytes(raw), suffix)
    assert frame is None or isinstance(frame, pd.DataFrame)


def to_ibm(value: float) -> bytes:
    """A float as IBM hexadecimal by the definition: sign, exponent of 16 plus 64, 14 hexadecimal digits."""
    if value == 0:
        return bytes(8)
    fraction, exponent = np.frexp(abs(value))
    shift = (-exponent) % 4
    sixteens = int(exponent + shift) // 4
    word = int(np.ldexp(fraction, 56 - shift)) | ((sixteens + 64) << 56) | (int(value < 0) << 63)
    return struct.pack(">Q", word)


@SETTINGS
@given(st.lists(st.floats(-1e60, 1e60).filter(lambda v: v == 0 or abs(v) > 1e-60), min_size=1, max_size=20))
def test_ibm_numbers_come_back_to_the_last_bit(values):
    block = np.array([list(to_ibm(v)) for v in values], dtype=np.uint8)
    np.testing.assert_array_equal(ibm_to_float(block), values)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)


@SETTINGS
@given(st.lists(NAMES, min_size=1, max_size=8))
def test_any_text_in_quotes_comes_back(texts):
    frame = pd.DataFrame({"USUBJID": [f"s{i}" for i in range(len(texts))], "AEDECOD": texts})
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, quoting=1)
    got = read(buffer.getvalue().encode(), ".csv")
    missing = {"", "NA", "NaN", "nan", "."}
    expected = [None if t in missing else t for t in texts]
    shown = [t.replace("\r\n", "\n").replace("\r", "\n") if isinstance(t, str) else t for t in expected]
    back = [None if v != v else v.replace("\r\n", "\n").replace("\r", "\n") for v in got["AEDECOD"]]
    assert back == shown
