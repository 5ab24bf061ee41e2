"""Transport files as SAS writes them: version 5 as PROC COPY, version 8 as the macro %LOC2XPT.

Only for tests. A descriptor of version 8 states the position that the value has in the SAS dataset, where the numbers
come first; the values stand in the order of the variables. That is how the files of SAS differ from those that other
software writes.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

RECORD = 80
STAMP = b"01JAN26:10:00:00"


def ibm(value: float | str, length: int = 8) -> bytes:
    """A number as `length` bytes of IBM hexadecimal; a missing value as its sign (".", "_", "A" to "Z") and zeros."""
    if isinstance(value, str):
        return value.encode().ljust(length, b"\x00")
    if value == 0:
        return bytes(length)
    fraction, exponent = np.frexp(abs(value))
    shift = (-exponent) % 4
    word = int(np.ldexp(fraction, int(56 - shift))) | ((int(exponent + shift) // 4 + 64) << 56) | (int(value < 0) << 63)
    return struct.pack(">Q", word)[:length]


def write(
    path: Path,
    columns: Mapping[str, Sequence],
    *,
    version: int = 8,
    lengths: Mapping[str, int] | None = None,
    formats: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    label_version: int = 8,
    stated: Sequence[int] | None = None,
) -> None:
    """`columns` as one dataset; a column is text where its first value is bytes or a text of more than one character.

    lengths : bytes of a variable; by default 8 for numbers and the longest value for text
    formats, labels : of variables; names beyond 8 and labels beyond 40 characters go into label records (version 8)
    stated : the positions that the descriptors state, where not those of SAS
    """
    text = {n: any(len(v) > 1 or v in ("", " ") for v in vals if isinstance(v, str)) for n, vals in columns.items()}
    raw = {n: [v.encode(encoding) for v in vals] if text[n] else vals for n, vals in columns.items()}
    width = {n: (lengths or {}).get(n) or (max(map(len, raw[n])) if text[n] else 8) for n in columns}
    numbers_first = sorted(columns, key=lambda n: text[n]) if version == 8 else list(columns)
    ends = np.cumsum([0, *(width[n] for n in numbers_first)])
    position = (
        dict(zip(numbers_first, ends, strict=False)) if stated is None else dict(zip(columns, stated, strict=True))
    )
    formats, labels = formats or {}, labels or {}
    blocks = [
        _descriptor(i, n, labels.get(n, ""), formats.get(n, ""), text[n], width[n], int(position[n]), version, encoding)
        for i, n in enumerate(columns, 1)
    ]
    rows = b"".join(
        b"".join(v.ljust(width[n]) if text[n] else ibm(v, width[n]) for n, v in zip(raw, row, strict=True))
        for row in zip(*raw.values(), strict=True)
    )
    count = len(next(iter(columns.values())))
    tails = {5: ("LIBRARY ", "MEMBER  ", "DSCRPTR ", "NAMESTR "), 8: ("LIBV8   ", "MEMBV8  ", "DSCPTV8 ", "NAMSTV8 ")}
    library, member, descriptor, names = tails[version]
    made = (
        _header(library) + _stamp(b"SAS     SAS     SASLIB  9.4     X64_10P ") + _record(STAMP)
        + _header(member, "000000000000000001600000000140") + _header(descriptor)
        + _stamp(b"SAS     ADSL    ".ljust(40 if version == 8 else 16) + b"SASDATA 9.4     X64_10P ") + _record(STAMP)
        + _header(names, f"000000{len(columns):04d}" + "0" * 20) + _padded(b"".join(blocks))
    )  # fmt: skip
    if version == 8:
        made += _labels(columns, labels, formats, encoding, label_version)
        made += _header("OBSV8   ", f"{count:>15}".ljust(30))
    else:
        made += _header("OBS     ")
    path.write_bytes(made + _padded(rows))


def _descriptor(
    number: int, name: str, label: str, form: str, text: bool, length: int, position: int, version: int, encoding: str
) -> bytes:
    told = label.encode(encoding)
    block = struct.pack(">hhhh", 2 if text else 1, 0, length, number) + name[:8].ljust(8).encode() + told[:40].ljust(40)
    block += (
        form[:8].ljust(8).encode() + struct.pack(">hhh", 0, 0, 0) + b"\x00\x00" + b" " * 8 + struct.pack(">hh", 0, 0)
    )
    block += struct.pack(">i", position)
    tail = name.ljust(32).encode() + struct.pack(">h", len(told)) if version == 8 else b""
    return block + tail.ljust(52, b"\x00")


def _labels(columns, labels, formats, encoding: str, label_version: int) -> bytes:
    parts = []
    for number, name in enumerate(columns, 1):
        label, form = labels.get(name, "").encode(encoding), formats.get(name, "").encode()
        if len(name) <= 8 and len(label) <= 40 and len(form) <= 8:
            continue
        told = [name.encode(), label] if label_version == 8 else [name.encode(), label, form, b""]
        parts.append(struct.pack(f">{1 + len(told)}h", number, *map(len, told)) + b"".join(told))
    if not parts:
        return b""
    return _header(f"LABELV{label_version} ", f"{len(parts)}".ljust(30)) + _padded(b"".join(parts))


def _header(kind: str, tail: str = "0" * 30) -> bytes:
    return f"HEADER RECORD*******{kind}HEADER RECORD!!!!!!!{tail}  ".encode()


def _stamp(start: bytes) -> bytes:
    return start.ljust(64) + STAMP


def _record(content: bytes) -> bytes:
    return content.ljust(RECORD)


def _padded(content: bytes) -> bytes:
    return content + b" " * (-len(content) % RECORD)
