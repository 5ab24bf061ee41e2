"""A small sas7bdat for tests: one page, 32-bit, little-endian, UTF-8, not compressed."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.sas import sas_constants as const

PAGE, HEADER = 65536, 1024
POINTER = 12


def write(frame: pd.DataFrame, path: Path, labels: dict[str, str], formats: dict[str, str]) -> None:
    """`frame` of text and float columns; `formats` such as DATE9 without their width (DATE)."""
    widths = [8 if frame[c].dtype.kind == "f" else _width(frame[c]) for c in frame.columns]
    order = sorted(range(len(widths)), key=lambda i: frame.iloc[:, i].dtype.kind != "f")
    offsets, at = [0] * len(widths), 0
    for i in order:
        offsets[i], at = at, at + widths[i]
    length = -(-at // 8) * 8
    rows = b"".join(_row(values, widths, offsets, length) for values in frame.itertuples(index=False, name=None))
    text, places = _text([*frame.columns, *labels.values(), *formats.values()])
    headers = [
        _row_size(length, len(frame), frame.shape[1]),
        b"\xf6\xf6\xf6\xf6" + struct.pack("<i", frame.shape[1]) + bytes(4),
        b"\xfd\xff\xff\xff" + text,
        _names([places[c] for c in frame.columns]),
        _attributes(frame, widths, offsets),
        *(_format(places.get(formats.get(c, "")), places.get(labels.get(c, ""))) for c in frame.columns),
    ]
    path.write_bytes(_file_header() + _page(headers, rows, len(frame)))


def _width(values: pd.Series) -> int:
    return max([1, *(len(v.encode()) for v in values.dropna())])


def _row(values: tuple, widths: list[int], offsets: list[int], length: int) -> bytes:
    row = bytearray(b" " * length)
    for value, width, offset in zip(values, widths, offsets, strict=True):
        if isinstance(value, (float, np.floating)) and width == 8 and not isinstance(value, str):
            missing = struct.pack("<Q", 0xFFFFFE0000000000)
            row[offset : offset + 8] = missing if value != value else struct.pack("<d", value)
        else:
            row[offset : offset + width] = ("" if value is None or value != value else str(value)).encode().ljust(width)
    return bytes(row)


def _text(words: list[str]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The text block (its size first), and offset and length of every word from the start of the block."""
    block, places = bytearray(28), {}
    for word in dict.fromkeys(words):
        raw = word.encode()
        places[word] = (len(block), len(raw))
        block += raw.ljust(-(-len(raw) // 4) * 4)
    struct.pack_into("<H", block, 0, len(block))
    return bytes(block) + bytes(8), places


def _row_size(length: int, rows: int, columns: int) -> bytes:
    block = bytearray(480)
    block[:4] = b"\xf7\xf7\xf7\xf7"
    for offset, value in ((20, length), (24, rows), (36, columns), (52, PAGE), (60, rows)):
        struct.pack_into("<i", block, offset, value)
    return bytes(block)


def _names(places: list[tuple[int, int]]) -> bytes:
    pointers = b"".join(struct.pack("<HHHH", 0, offset, length, 0) for offset, length in places)
    return b"\xff\xff\xff\xff" + struct.pack("<HHI", len(pointers) + 8, 0, 0) + pointers + bytes(8)


def _attributes(frame: pd.DataFrame, widths: list[int], offsets: list[int]) -> bytes:
    vectors = b"".join(
        struct.pack("<IIHBB", offset, width, 4, 1 if frame[c].dtype.kind == "f" else 2, 0)
        for c, width, offset in zip(frame.columns, widths, offsets, strict=True)
    )
    return b"\xfc\xff\xff\xff" + struct.pack("<HHI", len(vectors) + 8, 0, 0) + vectors + bytes(8)


def _format(form: tuple[int, int] | None, label: tuple[int, int] | None) -> bytes:
    block = bytearray(52)
    block[:4] = b"\xfe\xfb\xff\xff"
    for place, (offset, length) in ((34, form or (0, 0)), (40, label or (0, 0))):
        struct.pack_into("<HHH", block, place, 0, offset, length)
    return bytes(block)


def _page(headers: list[bytes], rows: bytes, count: int) -> bytes:
    page = bytearray(PAGE)
    struct.pack_into("<HHH", page, 16, 512, count + len(headers), len(headers))
    end = PAGE
    for i, block in enumerate(headers):
        end -= -(-len(block) // 4) * 4
        page[end : end + len(block)] = block
        struct.pack_into("<IIBBH", page, 24 + i * POINTER, end, len(block), 0, 0, 0)
    start = 24 + len(headers) * POINTER
    start += start % 8
    page[start : start + len(rows)] = rows
    assert start + len(rows) < end
    return bytes(page)


def _file_header() -> bytes:
    header = bytearray(HEADER)
    header[:32] = const.magic
    header[32], header[35], header[37], header[39] = 0x22, 0x32, 1, ord("1")
    header[70] = 20  # UTF-8
    header[84:92], header[92:156], header[156:164] = b"SAS FILE", b"ADSL".ljust(64), b"DATA    "
    struct.pack_into("<dd", header, 164, 2.0e9, 2.0e9)
    struct.pack_into("<iii", header, 196, HEADER, PAGE, 1)
    header[216:224] = b"9.0401M6"
    return bytes(header)
