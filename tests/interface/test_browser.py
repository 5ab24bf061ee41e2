"""The report in a real browser: a filter that filters, no error, accessible at every width and in both colours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

import kapstats as ks
from kapstats.evidence import gallery
from kapstats.evidence.pack import write_pack

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files")

#: a page that shows the report in a frame of a given width, asks it questions, and keeps the answers in its title
PROBE = """<!doctype html><meta charset="utf-8"><title>waiting</title>
<iframe id="f" src="report.html" style="width:{width}px;height:900px;border:0"></iframe>
<script src="accessibility.js"></script>
<script>
const frame = document.getElementById("f");
frame.addEventListener("load", () => {{
  const d = frame.contentDocument, w = frame.contentWindow, root = d.documentElement, said = {{}};
  said.sections = [...d.querySelectorAll("section.question")].map((s) => s.id);
  said.overflow = root.scrollWidth - root.clientWidth;
  said.figures = [...d.querySelectorAll("figure svg")].map((s) => s.getBoundingClientRect().width);
  said.unnamed = [...d.querySelectorAll("figure svg")].filter((s) => !s.querySelector("title").textContent).length;
  const all = [...d.querySelectorAll(".filterable tbody tr")], rows = () => all.filter((r) => !r.hidden);
  const words = d.querySelector(".filters input[type=search]");
  said.rows = rows().length;
  words.value = "dissociation"; words.dispatchEvent(new w.Event("input"));
  said.found = rows().map((r) => r.cells[0].textContent);
  words.value = ""; words.dispatchEvent(new w.Event("input"));
  said.again = rows().length;
  said.dark = +w.getComputedStyle(d.body).backgroundColor.match(/\\d+/)[0] < 128;
  d.querySelectorAll("details").forEach((e) => {{ e.open = true; }});
  said.faults = audit(d, w);
  document.title = JSON.stringify(said);
}});
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "out"
    ks.run(out=out)
    shutil.copy(Path(__file__).with_name("accessibility.js"), out)
    return out / "report.html"


def browse(address: Path, profile: Path, *more: str) -> tuple[str, str]:
    """The page after its scripts have run, and what the console said."""
    assert CHROMIUM is not None
    call = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=4000",
    ]
    done = subprocess.run([*call, *more, "--dump-dom", address.as_uri()], capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_opens_and_answers(report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    probe = report.with_name("probe.html")
    probe.write_text(PROBE.format(width=width), encoding="utf-8")
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    html, console = browse(probe, tmp_path / "profile", "--window-size=1400,1000", *dark)
    probe.unlink()
    assert console == ""
    title = re.search(r"<title>(.*?)</title>", html, flags=re.S)
    assert title is not None
    said = json.loads(unescape(title[1]))
    assert said["sections"] == ["subjects", "response", "relapse", "safety"]
    assert said["overflow"] <= 0
    assert len(said["figures"]) == 7
    assert min(said["figures"]) > 300
    assert said["unnamed"] == 0
    assert said["found"] == ["Psychiatric disorders", "Dissociation"]
    assert said["rows"] == said["again"] > 20
    assert said["dark"] == (scheme == "dark")
    assert said["faults"] == []


#: the same audit of any other page
OTHER = """<!doctype html><meta charset="utf-8"><title>waiting</title>
<iframe id="f" src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script src="accessibility.js"></script>
<script>
const frame = document.getElementById("f");
frame.addEventListener("load", () => {{
  const d = frame.contentDocument;
  d.querySelectorAll("details").forEach((e) => {{ e.open = true; }});
  document.title = JSON.stringify(audit(d, frame.contentWindow));
}});
</script>"""


@pytest.mark.parametrize("width", [1280, 390])
def test_validation_page_and_evidence_pack_are_accessible(tmp_path: Path, width: int) -> None:
    shutil.copy(Path(__file__).with_name("accessibility.js"), tmp_path)
    shutil.copy(Path(__file__).parents[2] / "docs" / "validation.html", tmp_path)
    found = ks.fingerprint(60, 111, 42, 108, printed=("2.11", "28.22"))
    write_pack(tmp_path / "pack.html", fingerprints={"a trial": found}, reproductions=[gallery.run("grunebaum-2018")])
    for page in ("validation.html", "pack.html"):
        probe = tmp_path / "probe.html"
        probe.write_text(OTHER.format(page=page, width=width), encoding="utf-8")
        html, console = browse(probe, tmp_path / "profile", "--window-size=1400,1000")
        title = re.search(r"<title>(.*?)</title>", html, flags=re.S)
        assert title is not None
        assert (page, console, json.loads(unescape(title[1]))) == (page, "", [])


def test_a_page_with_a_broken_script_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>noSuchFunction()</script>", encoding="utf-8")
    _, console = browse(page, tmp_path / "profile")
    assert "noSuchFunction" in console


#: a fault, and a page that has it
FAULTS = {
    "page without language": "<html>",
    "heading leaves out a level": "<h3>x</h3>",
    "header without scope": "<table><caption>t</caption><tr><th>x</th><td>1</td></tr></table>",
    "empty header": "<table><caption>t</caption><tr><th scope='row'></th><td>1</td></tr></table>",
    "table without caption": "<table><tr><th scope='row'>x</th><td>1</td></tr></table>",
    "img without alt": "<img src='x.png'>",
    "figure without name": "<svg role='img'><desc>d</desc></svg>",
    "figure without description": "<svg role='img'><title>t</title></svg>",
    "field without label": "<input type='search'>",
    "link or button without name": "<button></button>",
    "link to nowhere": "<a href='#gone'>x</a>",
    "id twice": "<p id='a'>x</p><p id='a'>y</p>",
    "two regions of one name": "<p role='region' aria-label='r'>x</p><p role='region' aria-label='r'>y</p>",
    "scrolls without focus": "<div style='overflow:auto;width:5rem'><div style='width:30rem'>x</div></div>",
    "wider than the screen": "<div style='width:3000px'>x</div>",
    "contrast": "<p style='color:#999'>grey on white</p>",
    "tab order set by hand": "<p tabindex='3'>x</p>",
}


def test_the_audit_would_notice(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("accessibility.js"), tmp_path)
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>t</title>"
    skip = "<a class='skip' href='#m'>Skip</a><header><h1>t</h1></header>"
    for k, (fault, body) in enumerate({"": "", **FAULTS}.items()):
        html = "" if fault == "page without language" else "<html lang='en'>"
        page = f"<!doctype html>{html}<head>{head}</head><body>{skip}<main id='m'>{body}</main></body>"
        (tmp_path / f"p{k}.html").write_text(page, encoding="utf-8")
    probe = tmp_path / "probe.html"
    frames = "".join(f"<iframe src='p{k}.html' width='900'></iframe>" for k in range(len(FAULTS) + 1))
    ask = (
        "addEventListener('load', () => { document.title = JSON.stringify([...document.querySelectorAll('iframe')]"
        ".map((f) => audit(f.contentDocument, f.contentWindow))); });"
    )
    probe.write_text(
        f"<!doctype html><title>waiting</title><script src='accessibility.js'></script>{frames}<script>{ask}</script>",
        encoding="utf-8",
    )
    html, _ = browse(probe, tmp_path / "profile", "--window-size=1400,1000")
    title = re.search(r"<title>(.*?)</title>", html, flags=re.S)
    assert title is not None
    clean, *found = json.loads(unescape(title[1]))
    assert clean == []
    for (fault, _), faults in zip(FAULTS.items(), found, strict=True):
        assert any(f.startswith(fault) for f in faults), (fault, faults)
