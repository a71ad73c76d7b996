"""Reports in a real browser: no error, nothing asked of anybody, no picture broken, and never wider than a phone.

Pages are shown in frames, one per width, under a policy that allows what stands in the page itself: whatever else it
asks for is refused with a line on the console.
"""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mixlaw.report.build import write_report, write_status
from mixlaw.runs.ledger import PlannedRun, begin_attempt, end_attempt, write_plan
from tests.browser import BROWSER, needs_browser
from tests.mixlaw.answers import answer, laws, runs

WIDTHS = (390, 1200)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
MEASURE = """<!doctype html><meta http-equiv="Content-Security-Policy" content="POLICY"><body>FRAMES
<pre id="said"></pre><script>
function measure(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach(part => part.open = true);
  return {
    width: frame.clientWidth, needed: root.scrollWidth, height: root.scrollHeight,
    pictures: page.images.length, broken: [...page.images].filter(image => !image.naturalWidth).length,
    lost: [...page.querySelectorAll("nav a, .note a")].filter(a => !page.querySelector(a.getAttribute("href"))).length,
  };
}
addEventListener("load", () =>
  said.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(measure)));
</script>""".replace("POLICY", POLICY)


def look(folder: Path, pages: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what a browser measures of pages, each at every width, and what it wrote to its console."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(page)}"></iframe>'
        for page in pages
        for width in WIDTHS
    )
    (folder / "wrapper.html").write_text(MEASURE.replace("FRAMES", frames), encoding="utf-8")
    command = [
        str(BROWSER),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--v=0",
        "--dump-dom",
        (folder / "wrapper.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = re.search(r'<pre id="said">(.+?)</pre>', done.stdout)
    assert said, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "document idle" not in line]
    return json.loads(html.unescape(said[1])), console


def study_in_trouble(folder: Path) -> Path:
    """Return a study whose first run failed with words that have no blank to break a line at."""
    write_plan(folder, [PlannedRun(name, "s", [], 10**8, 10**9, 6e17, {"a": 0.5, "b": 0.5}) for name in ("x", "y")])
    begin_attempt(folder / "x", "process 1 on host")
    end_attempt(folder / "x", 3)
    (folder / "x" / "run.json").write_text("{}")
    (folder / "x" / "log.txt").write_text(f"error: {'/a_long_folder' * 15} is gone\n")
    return folder


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("n_domains", [3, 17])
def test_reports_of_few_and_many_domains_fit_a_phone_and_need_nothing_else(n_domains: int, tmp_path: Path) -> None:
    study = study_in_trouble(tmp_path / "study")
    pages = [tmp_path / name for name in ("report.html", "status.html")]
    write_report(pages[0], laws(n_domains), runs(n_domains), None, answer(n_domains), study=study)
    write_status(pages[1], study)
    measured, console = look(tmp_path, [page.read_text(encoding="utf-8") for page in pages])
    assert console == []
    assert [found["width"] for found in measured] == list(WIDTHS) * len(pages)
    for found in measured:
        assert found["needed"] <= found["width"], found
        assert (found["broken"], found["lost"]) == (0, 0)
    assert [found["pictures"] > 5 for found in measured] == [True] * 2 + [False] * 2


@pytest.mark.slow
@needs_browser
def test_the_measurements_notice_what_is_wrong(tmp_path: Path) -> None:
    bad = '<nav><a href="#none">a</a></nav><p style="width:900px">.</p><script>none()</script>'
    bad += '<img src="none.png"><link rel="stylesheet" href="https://none.invalid/a.css">'
    (narrow, wide), console = look(tmp_path, [bad])
    assert narrow["needed"] > narrow["width"]
    assert wide["needed"] <= wide["width"]
    assert (narrow["broken"], narrow["lost"]) == (1, 1)
    for words in ("none is not defined", "none.png", "none.invalid"):
        assert any(words in line for line in console), console
