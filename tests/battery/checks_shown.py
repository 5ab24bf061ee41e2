"""Laws of what is shown: results that nobody can change, texts and figures that say what they are."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import kapstats as ks
from kapstats.errors import KapstatsError
from tests.battery.cases import Case
from tests.battery.checks import changes, check, usual, usual_facts
from tests.battery.results import Answers, answers, differences, facts, frames_of

SHOWN = ("to_text", "to_markdown", "to_html", "to_latex", "explain", "table", "summary", "_repr_html_")


def _text(answer: Any) -> str:
    return str(answer)


def _asked_again(case: Case, result: Any) -> Answers:
    return answers(case.answered(result), {})


@check(lambda case: case.frozen)
def result_is_frozen(case: Case) -> None:
    """Changing what a result hands out changes nothing that it says; setting its attributes is refused."""
    result = pickle.loads(pickle.dumps(usual(case.id).result))
    said = {"": result, **{k: v for k, v in _asked_again(case, result).said.items() if k}}
    for name, answer in said.items():
        before = _text(answer)
        for spoil in (_spoil_frame, _spoil_meta, _spoil_vcov, _spoil_copy):
            try:
                spoil(answer)
            except (TypeError, ValueError, AttributeError, KapstatsError):
                continue  # refused
            assert _text(answer) == before, f"{name or case.verb}: {spoil.__name__[7:]} changes what prints"
        for attribute in ("frame", "meta", "anything"):
            try:
                setattr(answer, attribute, None)
            except (AttributeError, TypeError):
                continue
            if isinstance(answer, (str, float, int, pd.DataFrame, pd.Series, np.ndarray, list, dict, tuple)):
                continue
            raise AssertionError(f"{name or case.verb}: {attribute} can be set")
    again = differences(usual_facts(case.id), facts(_asked_again(case, result)))
    assert not again, again


def _spoil_frame(answer: Any) -> None:
    frame = getattr(answer, "frame", None)
    if isinstance(frame, pd.DataFrame) and len(frame):
        frame[frame.columns[-1]] = 0.12345
        frame.iloc[:, 0] = "spoilt"


def _spoil_meta(answer: Any) -> None:
    meta = getattr(answer, "meta", None)
    if meta is not None:
        meta["title"] = meta["sentence"] = "spoilt"


def _spoil_vcov(answer: Any) -> None:
    vcov = getattr(answer, "vcov", None)
    if isinstance(vcov, np.ndarray) and vcov.size:
        vcov[:] = 0.0
        raise_if_kept = getattr(answer, "vcov", vcov)
        assert not (np.asarray(raise_if_kept) == 0.0).all(), "vcov can be changed"


def _spoil_copy(answer: Any) -> None:
    if hasattr(answer, "to_frame") and not isinstance(answer, pd.Series):
        frame = answer.to_frame()
        frame[frame.columns[-1]] = 0.0


@check()
def pickled_and_copied(case: Case) -> None:
    """A result that was pickled or copied answers as before."""
    for made in (lambda r: pickle.loads(pickle.dumps(r)), copy.deepcopy):
        gone = changes(case, _asked_again(case.quick(), made(usual(case.id).result)))
        assert not gone, gone


NUMBER = re.compile(r"\d+\.\d+")


def _significant(number: str) -> int:
    """Digits after the point that say something, and before it where it is not 0."""
    whole, decimals = number.split(".")
    return len(decimals.lstrip("0")) if whole == "0" else len(decimals)


MISSING = re.compile(r"(?<![\w.])(nan|NaN|None|<NA>|NaT|(?<!to )inf|-inf)(?![\w.])")


def _shown(answer: Any) -> dict[str, str]:
    texts = {"str": str(answer), "repr": repr(answer)}
    for name in SHOWN:
        if hasattr(type(answer), name) and not isinstance(answer, (pd.DataFrame, pd.Series)):
            texts[name] = str(getattr(answer, name)())
    return texts


def _ours(answer: Any) -> bool:
    return type(answer).__module__.startswith("kapstats")


@check()
def prints(case: Case) -> None:
    """Every way of printing works and shows no raw number."""
    for name, answer in usual(case.id).said.items():
        if not _ours(answer) or isinstance(answer, (KapstatsError, ks.Trial, ks.Curve)):
            continue
        for way, text in _shown(answer).items():
            if way in ("str", "repr") and not hasattr(answer, "to_text"):
                continue  # a settings object shows how it is made
            raw = [n for n in NUMBER.findall(text) if _significant(n) > 6]
            assert not raw, f"{name or case.verb}.{way}: {raw[:4]}"


@check()
def prints_no_nan(case: Case) -> None:
    """What is missing prints as NE or as nothing, never as nan, None or inf."""
    for name, answer in usual(case.id).said.items():
        if not _ours(answer) or isinstance(answer, (KapstatsError, ks.Trial, ks.Curve)):
            continue
        for way, text in _shown(answer).items():
            if way in ("str", "repr") and not hasattr(answer, "to_text"):
                continue  # a settings object shows how it is made
            raw = MISSING.search(text)
            assert raw is None, f"{name or case.verb}.{way}: {text[max(raw.start() - 50, 0) : raw.end() + 20]!r}"


@check()
def ard_is_complete(case: Case) -> None:
    """Analysis results data hold every statistic, in numbers and as printed."""
    for name, answer in usual(case.id).said.items():
        if hasattr(answer, "to_ard") and len(frames_of(Answers(answer, {"": answer}, (), ()))[""]):
            ard = answer.to_ard()
            assert {"stat_name", "stat", "stat_fmt"} <= set(ard.columns), f"{name}: {list(ard.columns)}"
            frame = frames_of(Answers(answer, {"": answer}, (), ()))[""]
            if "estimate" in frame:
                stats = ard[ard["stat_name"] == "estimate"]["stat"].astype(float).dropna().sum()
                assert np.isclose(stats, frame["estimate"].astype(float).dropna().sum()), name


@check()
def ratios_print_as_ratios(case: Case) -> None:
    """What is called a ratio prints as one; what stands on a log scale says "log"."""
    for name, answer in usual(case.id).said.items():
        meta = getattr(answer, "meta", None)
        if not isinstance(answer, ks.Estimates) or meta is None:
            continue
        text, title = answer.to_text(), str(meta.get("title", ""))
        called = re.search(r"\bratios?\b|\b(OR|RR|HR|IRR)\b", f"{title} {meta.get('measure', '')}", re.IGNORECASE)
        if called and (answer.frame.get("estimate", pd.Series(dtype=float)).astype(float) < 0).any():
            assert re.search(r"\blog", title + text.split("\n")[1], re.IGNORECASE), (
                f"{name or case.verb}: {title!r} prints negative ratios"
            )


@check()
def contrasts_are_labelled(case: Case) -> None:
    """A difference is labelled `A - B`, a ratio `A / B`, also after `exponentiate`."""
    for name, answer in usual(case.id).said.items():
        if not isinstance(answer, ks.Estimates) or "contrast" not in answer.frame or case.wraps:
            continue
        made = answer.exponentiate() if answer.meta.get("scale") in ("log", "logit") else answer
        labels = made.frame["contrast"].astype(str)
        if made.meta.get("scale") == "natural" and "quantity" not in made.frame and "measure" not in made.frame:
            minus = labels[labels.str.contains(" - ")]
            assert minus.empty, (
                f"{name or case.verb}: ratio {minus.iloc[0]!r} (estimate {made.frame['estimate'].iloc[0]:.3f})"
            )
        if {"estimate", "p_value", "statistic"} <= set(made.frame.columns):
            ratio = made.frame[labels.str.contains(" / ") & (made.frame["estimate"].astype(float) < 0)]
            assert ratio.empty or "log" in str(made.meta.get("title")), (
                f"{name or case.verb}: negative ratio {ratio.iloc[0].to_dict()}"
            )


# -------------------------------------------------------------------------------------------------------------- figures
@dataclass(frozen=True)
class Drawn:
    """What a figure says: the words on its axes, their scales, and the inches that a plain savefig cuts."""

    words: str
    scales: tuple[str, ...]
    cut: float


@cache
def figures(case_id: str) -> dict[str, Drawn | Exception]:
    """The figures of the result and its answers, drawn once; what went wrong in the place of the figure."""
    import matplotlib

    matplotlib.use("Agg")
    answered = {k: v for k, v in usual(case_id).said.items() if _ours(v) and hasattr(v, "plot")}
    return {name: _drawn(answer) for name, answer in answered.items()}


def _drawn(answer: Any) -> Drawn | Exception:
    import matplotlib.pyplot as plt

    try:
        drawn = answer.plot()
        figure = getattr(drawn, "figure", drawn)
        figure.canvas.draw()
        box, whole = figure.get_tightbbox(), figure.bbox_inches
        panels = [*figure.axes, *(inset for axes in figure.axes for inset in axes.child_axes)]
        words = [f"{a.get_xlabel()} {a.get_ylabel()} {a.get_title()}" for a in panels]
        words += [t.get_text() for t in (*figure.texts, *(t for a in panels for t in a.texts))]
        scales = tuple(s for a in panels for s in (a.get_xscale(), a.get_yscale()))
        cut = max(whole.x0 - box.x0, whole.y0 - box.y0, box.x1 - whole.x1, box.y1 - whole.y1)
        return Drawn(" ".join(words).strip(), scales, cut)
    except Exception as error:
        return error
    finally:
        plt.close("all")


def _good(case: Case) -> dict[str, Drawn]:
    return {name or case.verb: d for name, d in figures(case.id).items() if isinstance(d, Drawn)}


def _plots(case: Case) -> bool:
    return not case.heavy


@check(_plots)
def plots(case: Case) -> None:
    """A result that offers a figure draws it or says in an error of ours that it has none; its axes have names."""
    for name, drawn in figures(case.id).items():
        assert isinstance(drawn, (Drawn, KapstatsError)), f"{name or case.verb}: {drawn!r}"
        if isinstance(drawn, Drawn):
            assert drawn.words, f"{name or case.verb}: no axis has a name"
            assert not MISSING.search(drawn.words), f"{name or case.verb}: {drawn.words!r}"


@check(_plots)
def plots_say_what_they_are(case: Case) -> None:
    """The axis names what the verb estimates; ratios stand on a logarithmic axis or are called logarithms."""
    for name, drawn in figures(case.id).items():
        answer = usual(case.id).said[name]
        if not isinstance(drawn, Drawn):
            continue
        if name == "":
            assert re.search(case.axis, drawn.words, re.IGNORECASE), (
                f"{case.verb}: {case.axis!r} is not on {drawn.words!r}"
            )
        if isinstance(answer, ks.Estimates) and _all_ratios(answer):
            said = "log" in drawn.scales or re.search(r"\blog", drawn.words, re.IGNORECASE)
            assert said, f"{name or case.verb}: a ratio on a plain axis called {drawn.words!r}"


def _all_ratios(answer: ks.Estimates) -> bool:
    """Whether every row compares by a ratio."""
    if "contrast" not in answer.frame or "time" in answer.frame:
        return False
    slashes = answer.frame["contrast"].astype(str).str.contains(" / ").all()
    return answer.meta.get("scale") in ("log", "logit") or (answer.meta.get("scale") == "natural" and bool(slashes))


@check(_plots)
def savefig_cuts_nothing(case: Case) -> None:
    """A plain `savefig` shows everything that was drawn."""
    cut = {name: f"{drawn.cut:.2f} inches" for name, drawn in _good(case).items() if drawn.cut > 0.03}
    assert not cut, cut


@check(_plots)
def plots_change_no_setting(case: Case) -> None:
    """A figure leaves matplotlib's settings and the list of open figures alone, and draws into the axes it is given."""
    import matplotlib.pyplot as plt
    from matplotlib import rcParams

    result = usual(case.id).result
    if not hasattr(result, "plot"):
        return
    before = {k: v for k, v in rcParams.items() if k != "backend"}
    axes = plt.subplots()[1]
    try:
        drawn = result.plot(ax=axes)
        assert axes.figure in (drawn.figure, getattr(drawn, "figure", None)), "a given ax is not drawn into"
    except KapstatsError:
        pass
    finally:
        plt.close("all")
    assert {k: v for k, v in rcParams.items() if k != "backend"} == before
