"""The report in a real browser: three sections, a filter that filters, no error, nothing wider than the screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

import kapstats as ks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files")

#: a page that shows the report in a frame of a given width, asks it questions, and keeps the answers in its title
PROBE = """<!doctype html><meta charset="utf-8"><title>waiting</title>
<iframe id="f" src="report.html" style="width:{width}px;height:900px;border:0"></iframe>
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
  const linear = (x) => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
  const light = (c) => {{
    const [r, g, b] = c.match(/[\\d.]+/g).map((x) => linear(x / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  }};
  const page = light(w.getComputedStyle(d.body).backgroundColor);
  const ratio = (e) => {{
    const l = light(w.getComputedStyle(e).color); return (Math.max(l, page) + .05) / (Math.min(l, page) + .05);
  }};
  said.dark = page < .2;
  said.contrast = Math.min(...[...d.querySelectorAll("p, td, th, a, h2, h3, dd, dt, figcaption, summary")].map(ratio));
  document.title = JSON.stringify(said);
}});
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser") / "out"
    ks.run(out=out)
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


@pytest.mark.parametrize("width", [1280, 390])
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
    assert said["sections"] == ["response", "relapse", "safety"]
    assert said["overflow"] <= 0
    assert len(said["figures"]) == 7
    assert min(said["figures"]) > 300
    assert said["unnamed"] == 0
    assert said["found"] == ["Psychiatric disorders", "Dissociation"]
    assert said["rows"] == said["again"] > 20
    assert said["dark"] == (scheme == "dark")
    assert said["contrast"] >= 4.5


def test_a_page_with_a_broken_script_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><script>noSuchFunction()</script>", encoding="utf-8")
    _, console = browse(page, tmp_path / "profile")
    assert "noSuchFunction" in console
