"""What SAS holds as numbers: dates, date-times and times, and the formats that say which of them a number is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kapstats._types import FloatArray
from kapstats.errors import warn

#: formats of days since 1 January 1960, without their widths; B C D N P S name the separator
DAYS = re.compile(
    r"(DATE|(DDMMYY|MMDDYY|YYMMDD|MMYY|YYMM|YYQR?)[BCDNPS]?|[BE]8601DA|IS8601DA|(WEEK|WORD)DAT[EX]|WEEKV|WEEKDAY"
    r"|DAY|DOWNAME|JULDAY|JULIAN|MONNAME|MONTH|MONYY|YYMON|YEAR|QTRR?|NENGO|MINGUO|NLDATE\w*|EURDFD[DEN])"
)
#: formats of seconds since 1 January 1960
SECONDS = re.compile(
    r"(DATETIME|DATEAMPM|MDYAMPM|DT(DATE|MONYY|YEAR|WKDATX|YYQC)|[BE]8601(DN|DT|DX|DZ|LX)|IS8601(DN|DT|DZ)|NLDATM\w*"
    r"|EURDFDT)"
)
DAY = 86_400
ORIGIN = np.datetime64("1960-01-01", "us")
#: what nanoseconds reach; other years are given in microseconds
NANOSECONDS = (np.datetime64("1677-09-22", "us"), np.datetime64("2262-04-11", "us"))


def _day(iso: str) -> int:
    return int((np.datetime64(iso, "D") - ORIGIN.astype("datetime64[D]")).astype(int))


#: SAS has no 29 February in 4000 and in 8000, so that its 31DEC9999 is 2936547, two less than by the calendar
SHORT_YEARS = (_day("4000-02-29"), _day("8000-02-29") - 1)
FIRST, LAST = _day("0001-01-01"), _day("9999-12-31")
#: days of the years 1900 to 2100
USUAL = (-21_914, 51_500)


@dataclass(frozen=True, slots=True)
class Dates:
    """How the numbers of a variable are dates, judged by all of them.

    seconds : they count seconds, else days
    sas : in the calendar of SAS, else in the civil one (other writers)
    dtype : datetime64[ns], or datetime64[us] where a year needs it
    """

    seconds: bool
    sas: bool
    dtype: str

    def read(self, numbers: pd.Series) -> pd.Series:
        """`numbers` as datetime64, to the microsecond."""
        values = numbers.to_numpy(dtype=float)
        known = np.isfinite(values)
        moments = _moments(np.where(known, values, 0.0), self.seconds, self.sas)
        return pd.Series(np.where(known, moments, np.datetime64("NaT", "us")), index=numbers.index).astype(self.dtype)


def unit(form: str) -> str:
    """What a number with the SAS format `form` counts: ``"D"`` days, ``"s"`` seconds, or nothing of a date.

    Times (TIME8., HHMM., TOD5.) are seconds since midnight, and stay numbers.

    Examples
    --------
    >>> unit("YYMMDD10."), unit("DATETIME20.3"), unit("E8601DA"), unit("TIME8.")
    ('D', 's', 'D', '')
    """
    name = re.sub(r"\d*(\.\d*)?$", "", form.strip().upper())
    return "D" if DAYS.fullmatch(name) else "s" if SECONDS.fullmatch(name) else ""


class Judge:
    """Whether and how the numbers of one variable are dates; they may come in parts.

    A variable is dated by its format; without one by an ADaM name (``ADT``) where all values are whole days of the
    years 1900 to 2100, or 31DEC9999, which stands for no end.

    Examples
    --------
    >>> judge = Judge("EOSDT", "DATE9.")
    >>> judge.see(pd.Series([0.0, 2936547.0]))
    >>> judge.dates("adsl.xpt").read(pd.Series([2936547.0])).astype(str).tolist()
    ['9999-12-31']
    """

    def __init__(self, name: str, form: str) -> None:
        self.name, self.form = name, form
        named = name.upper().endswith("DT") and not form.strip()
        self.unit = unit(form) or ("D" if named else "")
        self.ends: list[float] = []
        self.usual = True

    def see(self, numbers: pd.Series) -> None:
        """Judge one more part."""
        values = numbers.to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if values.size:
            self.ends = [min([values.min(), *self.ends[:1]]), max([values.max(), *self.ends[1:]])]
            never = np.isin(values, (LAST, LAST - len(SHORT_YEARS)))
            self.usual = self.usual and bool((((values >= USUAL[0]) & (values <= USUAL[1])) | never).all())
            self.usual = self.usual and bool((values % 1 == 0).all())

    def dates(self, source: str) -> Dates | None:
        """How they are dates; None, with a warning where a format said so, if one is outside the years 1 to 9999."""
        seconds, by_name = self.unit == "s", not self.form.strip()
        if not self.ends:
            return None if by_name else Dates(seconds, True, "datetime64[ns]")
        if by_name and not self.usual:
            return None
        first, last = np.floor(np.array(self.ends) / (DAY if seconds else 1))
        if first < FIRST or last > LAST:
            warn(f"{source}: {self.name} has the format {self.form} and values outside the years 1 to 9999: no dates.")
            return None
        by_sas = bool(last <= LAST - len(SHORT_YEARS))
        return Dates(seconds, by_sas, reach(*_moments(np.array(self.ends), seconds, by_sas)))


def reach(first: np.datetime64, last: np.datetime64) -> str:
    """The dtype for dates from `first` to `last`: nanoseconds where they reach, else microseconds."""
    low, high = NANOSECONDS
    return "datetime64[ns]" if low <= first and last <= high else "datetime64[us]"


def _moments(values: FloatArray, seconds: bool, by_sas: bool) -> np.ndarray:
    """datetime64[us]; of a date the day counts, as SAS prints it."""
    whole = np.floor(values)
    days = np.floor(whole / DAY) if seconds else whole
    skipped = sum((days >= start).astype(np.int64) for start in SHORT_YEARS) if by_sas else 0
    micro = np.round((values - whole) * 1e6).astype(np.int64) if seconds else 0
    total = (whole.astype(np.int64) if seconds else days.astype(np.int64) * DAY) + skipped * DAY
    return ORIGIN + (total * 1_000_000 + micro).astype("timedelta64[us]")
