"""Our part of the formula language: bars, covariance structures, Surv and the special terms.

``split`` cuts a formula at its top level and recognises ``us(V | S)``, ``(x | g)``, ``strata()``, ``cluster()``,
``frailty()`` and ``offset()``. What is left is R's ordinary algebra of fixed effects and goes to ``design``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kapstats.errors import FormulaError, choose, nearest

STRUCTURES = ("us", "toep", "toeph", "ar1", "ar1h", "cs", "csh", "ad", "adh", "sp_exp", "sp_gau", "diag")
SPATIAL = ("sp_exp", "sp_gau")
DIAGONAL = "diag"
SPECIALS = ("strata", "cluster", "frailty", "offset")
MAX_LENGTH = 20_000


@dataclass(frozen=True)
class Surv:
    """``Surv(args..., type=...)``: the expressions as written, and "right", "counting" or "interval2"."""

    args: tuple[str, ...]
    type: str


@dataclass(frozen=True)
class Covariance:
    """``structure(coordinates | group / subject)``: one visit column, or the coordinate columns of sp_exp/sp_gau."""

    structure: str
    coordinates: tuple[str, ...]
    group: str | None
    subject: str

    @property
    def visit(self) -> str:
        """The visit column (of a structure that is not spatial)."""
        return self.coordinates[0]


@dataclass(frozen=True)
class Random:
    """``(terms | groups)``: `terms` as written (intercept implied), crossed `groups`; `correlated` unless ``||``."""

    terms: str
    groups: tuple[str, ...]
    correlated: bool


@dataclass(frozen=True)
class Frailty:
    """``frailty(group, "gamma" | "lognormal")``."""

    group: str
    distribution: str


@dataclass(frozen=True)
class Formula:
    """A formula cut into its parts; `fixed` is the remaining right-hand side ("1" when nothing remains)."""

    text: str
    response: str | Surv | None
    fixed: str
    covariance: Covariance | None = None
    random: tuple[Random, ...] = ()
    strata: tuple[str, ...] = ()
    cluster: str | None = None
    frailty: Frailty | None = None
    offset: tuple[str, ...] = ()


def parse(text: str) -> Formula:
    """Cut `text` into response, fixed effects and special terms.

    Raises
    ------
    FormulaError
        When brackets do not match, a special term has the wrong arguments, or stands inside an interaction.

    Examples
    --------
    >>> f = parse("CHG ~ BASE*AVISIT + TRT01P*AVISIT + us(AVISIT | USUBJID)")
    >>> f.fixed, f.covariance.structure, f.covariance.subject
    ('BASE*AVISIT + TRT01P*AVISIT', 'us', 'USUBJID')
    >>> parse("Surv(AVAL, CNSR == 0) ~ TRT01P + strata(SITEID)").response.args
    ('AVAL', 'CNSR == 0')
    """
    if not isinstance(text, str):
        raise FormulaError(f"A formula is a text such as 'CHG ~ TRT01P', not a {type(text).__name__}.")
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"The formula has {len(text)} characters; more than {MAX_LENGTH} are not read.")
    sides = cut(text, "~")
    if len(sides) > 2 or not sides[-1].strip():
        raise FormulaError(f"Formula {text!r}: write 'response ~ terms' with one ~ and something behind it.")
    response = _response(sides[0].strip()) if len(sides) == 2 else None
    parts: dict[str, list[object]] = {name: [] for name in ("fixed", "covariance", "random", *SPECIALS)}
    for sign, term in _signed_terms(sides[-1]):
        _sort_term(sign, term.strip(), parts, text)
    return _assemble(text, response, parts)


def _assemble(text: str, response: str | Surv | None, parts: dict[str, list[object]]) -> Formula:
    for name in ("covariance", "cluster", "frailty"):
        if len(parts[name]) > 1:
            raise FormulaError(f"Formula {text!r}: {len(parts[name])} {name} terms; write at most one.")
    fixed = "".join(str(p) for p in parts["fixed"]).strip().removeprefix("+").strip()
    return Formula(
        text=text,
        response=response,
        fixed=fixed or "1",
        covariance=_one(parts["covariance"]),  # type: ignore[arg-type]
        random=tuple(parts["random"]),  # type: ignore[arg-type]
        strata=tuple(parts["strata"]),  # type: ignore[arg-type]
        cluster=_one(parts["cluster"]),  # type: ignore[arg-type]
        frailty=_one(parts["frailty"]),  # type: ignore[arg-type]
        offset=tuple(parts["offset"]),  # type: ignore[arg-type]
    )


def _one(found: list[object]) -> object | None:
    return found[0] if found else None


def _sort_term(sign: str, term: str, parts: dict[str, list[object]], text: str) -> None:
    """Put one signed top-level term where it belongs."""
    inner = _bracketed(term)
    head = call(term)
    special = head is not None and head[0] in (*STRUCTURES, *SPECIALS)
    if not special and not (inner and len(cut(inner, "|")) > 1):
        _refuse_nested(term, text)
        parts["fixed"].append(f" {sign} {term}")
        return
    if sign == "-":
        raise FormulaError(f"Formula {text!r}: {term} cannot be taken away with a minus; leave it out.")
    if not special:
        parts["random"].extend(_random(inner or ""))
    elif head is not None and head[0] in STRUCTURES:
        parts["covariance"].append(_covariance(*head))
    elif head is not None:
        _special(head[0], head[1], parts)


def _refuse_nested(term: str, text: str) -> None:
    nested = re.search(rf"\b({'|'.join(SPECIALS)})\s*\(", term)
    if nested or re.search(rf"\b({'|'.join(STRUCTURES)})\s*\([^)]*\|", term):
        name = nested.group(1) if nested else "a covariance structure"
        raise FormulaError(f"Formula {text!r}: {name} stands inside {term!r}; it has to be a term of its own.")


def _special(name: str, args: tuple[str, ...], parts: dict[str, list[object]]) -> None:
    if not args or (name in ("cluster", "offset") and len(args) != 1):
        raise FormulaError(f"{name}({', '.join(args)}): takes {'one column' if name != 'strata' else 'columns'}.")
    if name == "strata":
        parts["strata"].extend(map(name_of, args))
    elif name == "frailty":
        distribution = args[1].strip("\"'") if len(args) > 1 else "gamma"
        parts["frailty"].append(Frailty(name_of(args[0]), choose(distribution, ("gamma", "lognormal"), "frailty")))
    else:
        parts[name].append(name_of(args[0]) if name == "cluster" else args[0])


def _covariance(structure: str, args: tuple[str, ...]) -> Covariance:
    halves = cut(", ".join(args), "|")
    shape = f"{structure}(VISIT | SUBJECT) or {structure}(VISIT | GROUP / SUBJECT)"
    if len(halves) != 2:
        raise FormulaError(f"{structure}({', '.join(args)}): write {shape}.")
    coordinates = tuple(name_of(c) for c in cut(halves[0], ","))
    right = [name_of(g) for g in cut(halves[1], "/")]
    if len(right) > 2 or (structure not in SPATIAL and len(coordinates) != 1):
        raise FormulaError(f"{structure}({', '.join(args)}): write {shape}.")
    return Covariance(structure, coordinates, right[0] if len(right) == 2 else None, right[-1])


def _random(inner: str) -> list[Random]:
    halves = re.split(r"\|\|", inner) if "||" in inner else cut(inner, "|")
    if len(halves) != 2 or not halves[0].strip():
        raise FormulaError(f"({inner}): write (terms | group), (terms || group) or (1 | a/b).")
    groups = [tuple(name_of(g) for g in cut(part, ":")) for part in cut(halves[1], "/")]
    nested = [tuple(g for part in groups[: i + 1] for g in part) for i in range(len(groups))]
    return [Random(halves[0].strip(), group, "||" not in inner) for group in nested]


def _response(text: str) -> str | Surv:
    head = call(text)
    if head is None or head[0] != "Surv":
        if not text:
            raise FormulaError("The formula has nothing before the ~.")
        return text
    named = {k.strip(): v.strip().strip("\"'") for k, v in (cut(a, "=", 1) for a in head[1] if _is_named(a))}
    plain = tuple(a for a in head[1] if not _is_named(a))
    unknown = [k for k in named if k != "type"]
    if unknown:
        raise FormulaError(f"Surv: argument {unknown[0]!r} is not known.{nearest(unknown[0], ['type'])}")
    kind = choose(named.get("type", "counting" if len(plain) == 3 else "right"), SURV_ARGS, "Surv type")
    if len(plain) != SURV_ARGS[kind]:
        raise FormulaError(f"{text}: type {kind!r} takes {SURV_ARGS[kind]} columns, not {len(plain)}. {SURV_HELP}")
    return Surv(plain, kind)


SURV_ARGS = {"right": 2, "counting": 3, "interval2": 2}
SURV_HELP = "Write Surv(time, event), Surv(start, stop, event) or Surv(left, right, type='interval2')."


def _is_named(argument: str) -> bool:
    return re.match(r"^\s*[A-Za-z_]\w*\s*=(?!=)", argument) is not None


def name_of(text: str) -> str:
    """A column name without white space and backticks around it.

    Examples
    --------
    >>> name_of(" `my column` ")
    'my column'
    """
    text = text.strip()
    if not text:
        raise FormulaError("A column name is missing in the formula.")
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] == "`" else text


def call(text: str) -> tuple[str, tuple[str, ...]] | None:
    """``name(a, b)`` as its name and arguments, or None when `text` is no single call.

    Examples
    --------
    >>> call("cbind(x, n - x)")
    ('cbind', ('x', 'n - x'))
    """
    match = re.match(r"^\s*([A-Za-z_][\w.]*)\s*(\(.*\))\s*$", text, flags=re.DOTALL)
    inner = _bracketed(match.group(2)) if match else None
    if match is None or inner is None:
        return None
    return match.group(1), tuple(a.strip() for a in cut(inner, ",")) if inner.strip() else ()


def _bracketed(text: str) -> str | None:
    """The inside of one pair of brackets that spans the whole of `text`, else None."""
    text = text.strip()
    if not text.startswith("("):
        return None
    for at, depth in _depths(text):
        if depth == 0:
            return text[1:at] if at == len(text) - 1 else None
    return None


def cut(text: str, separator: str, most: int = -1) -> list[str]:
    """`text` cut at `separator` outside brackets, quotes and backticks.

    Examples
    --------
    >>> cut("a + f(b, c), d", ",")
    ['a + f(b, c)', ' d']
    """
    pieces: list[str] = []
    start = 0
    for at, depth in _depths(text):
        if depth == 0 and text[at] == separator and (most < 0 or len(pieces) < most):
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


def _signed_terms(text: str) -> list[tuple[str, str]]:
    """Top-level terms with the + or - before them."""
    terms, start, sign = [], 0, "+"
    for at, depth in _depths(text):
        if depth == 0 and text[at] in "+-":
            if text[start:at].strip():
                terms.append((sign, text[start:at]))
                sign = text[at]
            else:
                sign = "-" if (sign == "-") != (text[at] == "-") else "+"
            start = at + 1
    if not text[start:].strip():
        raise FormulaError(f"The formula ends with nothing behind {text.strip()[-1:]!r}.")
    return [*terms, (sign, text[start:])]


def _depths(text: str) -> list[tuple[int, int]]:
    """(position, bracket depth behind it) of every character outside quotes and backticks."""
    found, depth, quote = [], 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
            continue
        if character in "'\"`":
            quote = character
            continue
        depth += (character in "([") - (character in ")]")
        if depth < 0:
            raise FormulaError(f"Formula {text!r}: a closing bracket too many at character {at + 1}.")
        found.append((at, depth))
    if depth or quote:
        raise FormulaError(f"Formula {text!r}: {'a quote' if quote else 'a bracket'} is not closed.")
    return found
