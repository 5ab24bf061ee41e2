"""Every published result of the gallery, to its printed digits; misprints and calibrations are marked so."""

import re

import pytest

import kapstats as ks
from kapstats.evidence.gallery.entry import Line
from kapstats.evidence.gallery.page import write_page

IDS = {"G03", "G04", "G05", "G06", "G07", "G08", "G09", "G10", "G11", "G13", "G14", "G17", "G18", "G20", "G21", "G22"}


@pytest.mark.parametrize("name", ks.gallery.list())
def test_every_exact_line_agrees_to_its_printed_digits(name):
    result = ks.gallery.run(name)
    frame = result.to_frame()
    wrong = frame[(frame["kind"] == "exact") & ~frame["agrees"]]
    assert wrong.empty, wrong.to_string()
    assert result.agrees
    assert len(frame) >= 2
    assert not frame.duplicated(["quantity", "published"]).all()


def test_the_gallery_is_complete():
    assert {entry.id for entry in ks.gallery.ENTRIES} == IDS
    kinds = ks.gallery.run_all()["kind"].value_counts()
    assert kinds["exact"] > 350
    assert kinds["calibration"] + kinds["misprint"] < 15


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
    assert abs(lines.loc["Laryngo/bronchospasm", "reproduced"] - 0.029) < 0.0005
    assert lines.loc["Tachycardia/bradycardia", "published"] == ".029"


def test_the_page_stands_alone(tmp_path):
    page = write_page([ks.gallery.run(n) for n in ("elekt-d", "daly-2018")], tmp_path / "gallery.html")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    assert not re.findall(r"""(?:src|href)=["']https?://""", text.replace("xlink:href", "href"))
    assert "ELEKT-D" in text
    assert (tmp_path / "gallery.csv").read_text().startswith("quantity,published,reproduced")


def test_figures_show_published_and_own_marks():
    figure = ks.gallery.run("transform-risk-differences").figure
    colours = {line.get_markerfacecolor() for line in figure.axes[0].lines}
    assert "white" in colours
    assert len(figure.axes[0].lines) >= 20
