"""What a variable name says in ADaM: text, number, flag or date."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kapstats.data import sas
from kapstats.errors import DataError

#: identifiers and labels: text even when every value looks like a number
TEXT = re.compile(
    r"(STUDYID|U?SUBJID|SITEID|SITEGR\d|INVID|PARAMCD|PARAM|PARCAT\d|AVISIT|VISIT|AVALC|BASEC|ARM(CD)?|ACTARM(CD)?"
    r"|TRT\d\d[PA]|TRT[PA]|TRTSEQ[PA]|AE(TERM|DECOD|BODSYS|SOC|LLT|HLT|HLGT|SEV|TOXGR|REL|ACN|OUT)|SEX|RACE|ETHNIC"
    r"|DTYPE|ROUTE|.*FL|.*DTC)"
)
#: numbers by definition: anything else in them is a mistake
NUMBER = re.compile(
    r"(AVAL|BASE|CHG|PCHG|AVISITN|VISITNUM|CNSR|AGE|TRT\d\d[PA]N|TRT[PA]N|PARAMN|ADY|ASTDY|AENDY|TRTDURD|AESEQ|ADURN)"
)
#: numeric dates and date-times (DTC is text)
DATE = re.compile(r".*DTM?")
#: subjects, sites and studies: text in every format, so that "7" of a csv is 7 of a parquet file
ID = re.compile(r"(STUDYID|U?SUBJID|SITEID|INVID)")
#: the largest whole number up to which a float is exact; beyond it, a number identifies something
EXACT = 2**53
#: more columns than this are no analysis dataset (a transport file counts them in four digits)
MOST_COLUMNS = 10_000
#: population flags of ADSL, and what they stand for
POPULATIONS = {
    "RANDFL": "Randomised",
    "ITTFL": "Intention-to-treat population",
    "FASFL": "Full analysis set",
    "SAFFL": "Safety population",
    "EFFFL": "Efficacy population",
    "PPROTFL": "Per-protocol population",
}
#: what the usual subject variables are called where the data carry no labels
LABELS = {
    "AGE": "Age",
    "AGEGR1": "Age group",
    "SEX": "Sex",
    "RACE": "Race",
    "ETHNIC": "Ethnicity",
    "HEIGHT": "Height",
    "WEIGHT": "Weight",
    "BMI": "Body mass index",
    "MADRSBL": "MADRS at baseline",
    "USUBJID": "Subject",
    "SITEID": "Site",
    "TRT01P": "Planned treatment",
    "TRT01A": "Actual treatment",
    "ROUTE": "Route",
    "PARAM": "Parameter",
    "AVISIT": "Visit",
    "ADY": "Day",
    "AVAL": "Value",
    "BASE": "Baseline",
    "CHG": "Change",
    "AEBODSYS": "Body system",
    "AEDECOD": "Preferred term",
    "AESEV": "Severity",
    "AESER": "Serious",
    "AEREL": "Related",
    "ASTDY": "First day",
    "AENDY": "Last day",
}
#: units that hold in every simulated trial
SIMULATED = {"AGE": "Age (years)", "WEIGHT": "Weight (kg)"}
ISO_DATE = r"\d{4}-\d{2}-\d{2}"
ISO_DATE_TIME = ISO_DATE + r"([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?"


def population(flag: str) -> str:
    """A population in words, its flag beside it.

    Examples
    --------
    >>> population("SAFFL"), population("RANDFL"), population("MYFL")
    ('the safety population (SAFFL)', 'the randomised population (RANDFL)', 'population MYFL')
    """
    if flag not in POPULATIONS:
        return f"population {flag}" if flag.isidentifier() else f"those with {flag}"
    words = POPULATIONS[flag].lower()
    return f"the {words}{'' if words.endswith(('population', 'set')) else ' population'} ({flag})"


def in_words(name: str) -> str:
    """A variable in words within a sentence; its own name where it has none.

    Examples
    --------
    >>> in_words("ROUTE"), in_words("TRT01A"), in_words("MADRSBL"), in_words("Clinic")
    ('route', 'actual treatment', 'MADRS at baseline', 'Clinic')
    """
    words = LABELS.get(name)
    if words is None:
        return name
    return words if words[:2].isupper() else words[0].lower() + words[1:]


def is_text(name: str) -> bool:
    """Whether ADaM has text in a variable of this name."""
    return TEXT.fullmatch(name.upper()) is not None


def is_number(name: str) -> bool:
    """Whether ADaM has a number in a variable of this name."""
    return NUMBER.fullmatch(name.upper()) is not None


def capitals(values: pd.Series) -> pd.Series:
    """The texts in capitals, without blanks around them; a missing one is empty.

    Examples
    --------
    >>> capitals(pd.Series(["Fatal ", None])).tolist()
    ['FATAL', '']
    """
    return values.map(lambda v: "" if pd.isna(v) else str(v).strip().upper()).astype("object")


def is_date(name: str) -> bool:
    """Whether ADaM has a numeric date or date-time in a variable of this name."""
    return DATE.fullmatch(name.upper()) is not None


def check_names(source: str, names: Sequence[str]) -> None:
    """Refuse names of columns that stand twice, and more columns than are read."""
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{source}: has {len(names):,} columns; at most {MOST_COLUMNS:,} are read. Split the table.")
    name, times = next(iter(Counter(names).most_common(1)), ("", 0))
    if times > 1:
        raise DataError(f"{source}: column {name!r} appears {times} times. Rename or drop one.")


def numbers(values: pd.Series) -> pd.Series:
    """`values` as numbers, NaN where they are none; decimals correctly rounded (`pd.to_numeric` can miss the last bit).

    Examples
    --------
    >>> float(numbers(pd.Series(["9.999999999999999e-31", "1e-30"]))[1])
    1e-30
    """
    try:
        parsed = pd.to_numeric(values, errors="coerce")
    except OverflowError:  # whole numbers of more than 308 digits, of which text is none
        return numbers(values.map(lambda v: str(v) if type(v) is int else v))
    if not pd.api.types.is_float_dtype(parsed.dtype):
        return parsed
    exact, known = np.full(len(parsed), np.nan), parsed.notna().to_numpy()
    exact[known] = values.to_numpy(dtype=object)[known].astype(float)
    found = pd.Series(exact, index=values.index)
    if not np.isinf(exact).any():
        return found
    beyond = np.isinf(found) & ~values.astype(str).str.contains("inf", case=False)  # 1e400 is no infinity
    return found.mask(beyond)


def with_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its date variables (names ending in DT or DTM) as datetime64 where every value is a full ISO date.

    A column with a partial date ("2014-03") stays text, so that nothing is lost; `derive.dates` reads it.
    """
    changed = {name: dates for name in dated(frame) if (dates := iso_dates(frame[name])) is not None}
    return _assigned(frame, changed)


def dated(frame: pd.DataFrame) -> list[str]:
    """Columns that may be dates: of texts under a date's name, or of Python's dates under any."""
    return [name for name in frame.columns if frame[name].dtype.kind == "O" and _may_be_dates(str(name), frame[name])]


def _may_be_dates(name: str, values: pd.Series) -> bool:
    known = values.notna().to_numpy()
    return is_date(name) or (bool(known.any()) and isinstance(values.iloc[int(known.argmax())], datetime.date))


def iso_dates(values: pd.Series) -> pd.Series | None:
    """`values` as datetime64, or None when one of them is no full, real ISO date (or there is none at all)."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values
    there = values.dropna().astype(str)
    codes, unique = pd.factorize(there)
    distinct = pd.Series(unique, dtype="object")
    if there.empty or not distinct.str.fullmatch(ISO_DATE_TIME).all():
        return None
    try:  # numpy reads every year that four digits write; 2014-02-30 has the form of a date and is none
        moments = np.array([text[:26] for text in unique], dtype="datetime64[us]")
    except ValueError:
        return None
    dtype = sas.reach(moments.min(), moments.max())
    if dtype == "datetime64[ns]":
        moments = np.array([text[:29] for text in unique], dtype="datetime64[ns]")
    return pd.Series(moments[codes], index=there.index).astype(dtype).reindex(values.index)


def one_unit(*columns: pd.Series) -> tuple[pd.Series, ...]:
    """Dates in one unit, so that they can be subtracted: microseconds where one of them is not in nanoseconds.

    Examples
    --------
    >>> end, start = (iso_dates(pd.Series([day])) for day in ("9999-12-31", "2024-01-01"))
    >>> end, start = one_unit(end, start)
    >>> (end - start).dt.days.tolist()
    [2913173]
    """
    return columns if len({c.dt.unit for c in columns}) == 1 else tuple(c.astype("datetime64[us]") for c in columns)


def one_unit_in_all(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables of a trial with their dates in one unit, where a year needs another than nanoseconds."""
    dates = {(key, c): t[c] for key, t in tables.items() for c in t.columns if t[c].dtype.kind == "M"}
    plain = {at: values for at, values in dates.items() if getattr(values.dtype, "tz", None) is None}
    if not any(sas.reach(*_ends(values)) != "datetime64[ns]" for values in plain.values() if values.notna().any()):
        return tables
    made = {at: values.astype("datetime64[us]") for at, values in plain.items()}
    return {key: _assigned(t, {c: v for (k, c), v in made.items() if k == key}) for key, t in tables.items()}


def _ends(values: pd.Series) -> tuple[np.datetime64, np.datetime64]:
    return np.datetime64(values.min().to_datetime64(), "us"), np.datetime64(values.max().to_datetime64(), "us")


def text_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with numeric identifiers of subjects and sites as text.

    Examples
    --------
    >>> text_ids(pd.DataFrame({"SITEID": [701.0, None]}))["SITEID"].tolist()
    ['701', None]
    """
    numeric = [c for c in frame.columns if is_id(str(c)) and pd.api.types.is_numeric_dtype(frame[c].dtype)]
    return _assigned(frame, {c: frame[c].astype("object").map(id_text) for c in numeric})


def is_id(name: str) -> bool:
    """Whether a variable of this name identifies a subject, a site or a study."""
    return ID.fullmatch(name.upper()) is not None


def id_text(value: Any) -> str | None:
    """An identifier that a file holds as a number, as text: 701.0 is "701"."""
    if pd.isna(value):
        return None
    return str(int(value)) if float(value).is_integer() else str(value)


def _assigned(frame: pd.DataFrame, changed: dict[Any, pd.Series]) -> pd.DataFrame:
    made = frame.assign(**changed) if changed else frame
    made.attrs = dict(frame.attrs)
    return made


def trimmed(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """`frame` without blanks at the end of its texts, as SAS compares them; a text of blanks alone is missing."""
    changed = {}
    for name in frame.columns:
        values = frame[name]
        if not (pd.api.types.is_object_dtype(values.dtype) or pd.api.types.is_string_dtype(values.dtype)):
            continue
        try:
            codes, unique = pd.factorize(values)
            texts = [v.rstrip(" ") if isinstance(v, str) else v for v in unique]
        except UnicodeDecodeError as error:  # texts of parquet files are decoded when they are looked at
            raise DataError(f"{source}: column {name!r} holds bytes that are no text; the file is damaged.") from error
        except TypeError:  # lists, dicts: no texts
            continue
        if any(isinstance(v, str) and (new != v or not new) for v, new in zip(unique, texts, strict=True)):
            plain = np.array([*(None if v == "" else v for v in texts), None], dtype=object)
            made = pd.Series(plain[codes], index=values.index, dtype="object").where(lambda v: v.notna())
            changed[name] = made.astype(values.dtype)
    return _assigned(frame, changed)
