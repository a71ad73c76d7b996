"""The explorer of a report as a reader uses it: with the keyboard, with a link, with a screen reader, on a phone."""

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.law import Law
from mixlaw.laws.registry import get_law
from mixlaw.laws.terms import Constant
from mixlaw.laws.tree import Sum
from mixlaw.mixture import Mixture
from mixlaw.report.build import write_report
from mixlaw.report.explore.payload import explorer_of
from mixlaw.report.material import Material
from mixlaw.tables.phase_mixtures import ranges_by_phase
from tests.browser import Tab, needs_browser
from tests.marks import slow
from tests.mixlaw.answers import answer, laws, names
from tests.mixlaw.benchmarks.curves import curves
from tests.mixlaw.synthetic import TRUTHS, fitted, phase_study

pytestmark = needs_browser
TODAY = {"domain0": 0.2, "domain1": 0.5, "domain2": 0.3}
QUESTION = Question(
    7e9,
    150e9,
    {"main": 0.5, "other": 0.5},
    floors={"domain0": 0.1},
    caps={"domain1": 0.6},
    groups={"both": (("domain1", "domain2"), 0.2, 0.9)},
    available={"domain2": 60e9},
    max_epochs=2.0,
    baselines={"today": Mixture.of(TODAY, names(3))},
    not_worse={"main": 1.0},
)
TARGETS = ("main", "other")


@pytest.fixture(scope="module")
def best() -> Recommendation:
    """Return a recommendation with limits of every kind, a baseline, and two benchmarks."""
    return recommend(laws(3, TARGETS), QUESTION, benchmarks=curves("main", "other"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, best: Recommendation) -> Path:
    """Return its report."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report(out, laws(3, TARGETS), answer=best, benchmarks=curves("main", "other"))
    return out


@pytest.fixture
def opened(tab: Tab, report: Path) -> Callable[..., Tab]:
    """Return what opens the report with a link's end."""

    def open_it(end: str = "") -> Tab:
        tab.open("about:blank")
        tab.open(f"{report.as_uri()}#{end}")
        return tab

    return open_it


def weights(tab: Tab) -> list[float]:
    """Return the weights of the page's link."""
    link = dict(parse_qsl(tab.evaluate("location.hash.slice(1)"), keep_blank_values=True))
    return [float(link[f"w.{name}"]) for name in names(3)]


def texts(tab: Tab, selector: str) -> list[str]:
    """Return the texts of some elements."""
    return tab.evaluate(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent)")


def click(tab: Tab, text: str) -> None:
    tab.evaluate(f"[...document.querySelectorAll('button')].find((b) => b.textContent === {text!r}).click()")


def shown(tab: Tab, column: int) -> list[list[float]]:
    """Return the value and the ends of its interval in every row: losses in the first column, gains in the second."""
    cell = f"#losses tbody td:nth-of-type({column})"
    ends = [text.replace("−", "-").split(" to ") for text in texts(tab, f"{cell} small")]
    values = [text.replace("−", "-") for text in texts(tab, f"{cell} span")]
    return [[float(value), *map(float, span)] for value, span in zip(values, ends, strict=True)]


def test_it_begins_at_the_recommendation_and_says_what_it_says(
    opened: Callable[..., Tab], best: Recommendation
) -> None:
    tab = opened()
    assert weights(tab) == pytest.approx(best.weights.array, abs=1e-5)
    assert texts(tab, "#override") == [best.override]
    predicted = best.per_target.set_index("mixture")
    losses = [*predicted.loc["recommended"], best.outcomes["predicted"][0]]
    assert [value for value, _, _ in shown(tab, 1)] == pytest.approx(losses, abs=2e-4)
    over_today = best.gains[best.gains["mixture"] == "today"].set_index("target")
    for target, found in zip([*TARGETS, "objective"], shown(tab, 2), strict=True):
        assert found == pytest.approx(over_today.loc[target, ["gain", "low", "high"]].tolist(), abs=2e-3)
    assert [line for line in tab.console() if "document idle" not in line] == []


def test_scores_are_those_of_the_recommendation_and_follow_the_mixture(
    opened: Callable[..., Tab], best: Recommendation
) -> None:
    tab = opened()
    expected = best.scores[best.scores["benchmark"] == "quiz"].set_index("mixture")["score"]
    first = texts(tab, "#scores tbody span")
    quiz = [float(text.removesuffix("\u00a0%")) / 100 for text in first[:2]]
    assert quiz == pytest.approx(expected[["recommended", "today"]].tolist(), abs=2e-3)
    assert first[2:] == ["–", "–"]
    assert "not predictable: all runs are at chance" in texts(tab, "#scores .mark")
    click(tab, "go to today")
    again = texts(tab, "#scores tbody span")
    assert again[0] == again[1] == first[1]


def test_it_goes_to_baselines_and_back(opened: Callable[..., Tab], best: Recommendation) -> None:
    tab = opened("n=1e9")
    click(tab, "go to today")
    assert weights(tab) == [0.2, 0.5, 0.3]
    assert [gain for gain, _, _ in shown(tab, 2)] == [0.0] * 3  # over the first baseline
    click(tab, "go to h*")
    assert weights(tab) == pytest.approx(best.weights.array, abs=1e-5)
    assert "n=7000000000" in tab.evaluate("location.hash")


def test_the_keyboard_moves_locks_and_copies(opened: Callable[..., Tab]) -> None:
    tab = opened("w.domain0=0.2&w.domain1=0.5&w.domain2=0.3")
    tab.evaluate("document.getElementById('w-0').focus()")
    tab.press("ArrowRight", "ArrowRight")
    assert weights(tab) == [0.21, 0.495, 0.295]
    tab.press("Tab", "Tab", " ")  # past its number to its lock
    tab.press("Tab", "ArrowRight", "ArrowRight")  # the slider of the next domain
    assert weights(tab) == [0.21, 0.505, 0.285]
    tab.evaluate("document.getElementById('n_params').focus()")
    tab.press("Home")
    assert float(dict(parse_qsl(tab.evaluate("location.hash.slice(1)")))["n"]) == 1e7
    assert tab.evaluate("document.getElementById('n_params').getAttribute('aria-valuetext')") == "10M"


def test_what_is_typed_is_read_or_marked_and_replaced(opened: Callable[..., Tab]) -> None:
    tab = opened("w.domain0=0.2&w.domain1=0.5&w.domain2=0.3")
    typed = "(id, text) => { const field = document.querySelector(id); field.focus(); field.value = text;"
    typed += "['input', 'change'].forEach((name) => field.dispatchEvent(new Event(name)));"
    typed += "return field.getAttribute('aria-invalid') }"
    assert tab.evaluate(f"({typed})('#n_params-text', '3e9')") == "false"
    assert "n=3000000000&" in tab.evaluate("location.hash")
    assert tab.evaluate(f"({typed})('#n_params-text', 'many')") == "true"
    assert "n=3000000000&" in tab.evaluate("location.hash")
    tab.press("Tab")
    assert tab.evaluate("document.querySelector('#n_params-text').value") == "3B"
    tab.evaluate(f"({typed})('[type=number]', '150')")
    assert weights(tab) == [1, 0, 0]
    tab.press("Tab")
    assert tab.evaluate("document.querySelector('[type=number]').value") == "100"


def test_broken_limits_turn_red_and_are_said(opened: Callable[..., Tab]) -> None:
    tab = opened("w.domain0=0.05&w.domain1=0.61&w.domain2=0.34&d=6e11")
    broken = texts(tab, "#limits .broken")
    assert len(broken) == len(texts(tab, "#limits li")) == 5
    assert [text.split()[1] for text in broken] == ["domain0", "domain1", "both", "domain2", "loss"]
    red = tab.evaluate("getComputedStyle(document.querySelector('.domain.broken label')).color")
    assert red == "rgb(179, 38, 30)"
    wait = "new Promise((done) => setTimeout(done, 700))"
    tab.evaluate(wait)
    said = texts(tab, "[role=status]")[0]
    assert "Limits broken: domain0 at least 10" in said
    click(tab, "go to h*")
    assert texts(tab, "#limits .broken") == []


def test_sizes_beyond_the_runs_are_marked_at_every_target(opened: Callable[..., Tab]) -> None:
    tab = opened("n=3e7&d=5e9")
    assert texts(tab, "#losses .mark") == ["", "", ""]
    tab = opened("n=1e9&d=5e9")
    assert texts(tab, "#losses .mark") == ["beyond runs: N 10×"] * 2 + [""]
    assert texts(tab, "#n_params-mark") == ["10 times beyond the runs"]


def test_a_link_that_cannot_be_shown_is_said_and_not_shown(opened: Callable[..., Tab], best: Recommendation) -> None:
    tab = opened("w.moon=1")
    assert weights(tab) == pytest.approx(best.weights.array, abs=1e-5)
    tab.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert "a domain 'moon'" in texts(tab, "[role=status]")[0]


def test_everything_that_can_be_used_has_a_name(opened: Callable[..., Tab]) -> None:
    tab = opened()
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("slider", "spinbutton", "textbox", "checkbox", "button", "combobox")
    used = [n for n in nodes if n["role"]["value"] in roles]
    assert len(used) >= 2 * 2 + 3 * 3 + 4
    assert [n for n in used if not n.get("name", {}).get("value")] == []
    sliders = [n for n in used if n["role"]["value"] == "slider"]
    assert [n["name"]["value"] for n in sliders] == ["N, parameters", "D, tokens", *names(3)]


@pytest.mark.parametrize("dark", [slow(False), True])
def test_it_fits_a_phone_in_light_and_dark(opened: Callable[..., Tab], dark: bool) -> None:
    tab = opened()
    try:
        tab.shape(390, dark=dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        ink = tab.evaluate("getComputedStyle(document.querySelector('table td')).color")
        assert ink == ("rgb(255, 255, 255)" if dark else "rgb(0, 0, 0)")
    finally:
        tab.shape(1200)


def test_it_works_inside_of_another_page_that_gives_it_nothing_but_scripts(
    tab: Tab, report: Path, best: Recommendation, tmp_path: Path
) -> None:
    """As W&B shows it: without an address, a clipboard or a network."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    inside = report.read_text() + (
        "<script>addEventListener('load', async () => { go(); await new Promise((done) => setTimeout(done, 100));"
        "parent.postMessage([override.textContent, document.getElementById('explore-said').textContent], '*') });"
        "const go = () => document.querySelector('[data-copy=override]').click()</script>"
    )
    frame = f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(inside)}"></iframe>'
    heard = "<script>said = new Promise((done) => onmessage = ({data}) => done(data))</script>"
    outer = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}">{heard}{frame}'
    (tmp_path / "outer.html").write_text(outer)
    tab.open((tmp_path / "outer.html").as_uri())
    override, said = tab.evaluate("said")
    assert override == best.override
    assert said == f"Copy this: {override}"


def test_a_law_of_the_user_leaves_the_page_static(tmp_path: Path) -> None:
    class Mine(Constant):
        """A term that no script knows."""

    law = Law("mine", "E", "a test", Sum(Mine("E"), *get_law("additive").term.children[1:]))
    own = FittedLaws({"mine": replace(laws(3).best, law=law)}, "mine", "", laws(3).ranges, laws(3).mixtures)
    write_report(tmp_path / "report.html", own)
    page = (tmp_path / "report.html").read_text()
    assert "A browser cannot evaluate the mine law, because its formula is Python code" in page
    assert "<script" not in page


def test_an_answer_of_other_laws_is_not_explored() -> None:
    other = replace(answer(3, domains=["a", "b", "c"]), law="joint")
    assert explorer_of(Material(laws(3), answer=other)).mixtures.keys() == {"uniform"}


PHASED = "multiplicative-phases"


@pytest.fixture(scope="module")
def two_phases() -> tuple[FittedLaws, Recommendation]:
    """Return a law of phases, and its recommendation of two with a floor."""
    truth = TRUTHS[PHASED]
    of_phases = fitted(PHASED, {"main": truth, "other": truth + 0.01}, n_draws=40)
    of_phases = replace(of_phases, phase_ranges=ranges_by_phase(phase_study(PHASED)))
    question = Question(1e9, 1e11, {"main": 0.5, "other": 0.5}, floors={"web": 0.1})
    return of_phases, recommend(of_phases, question, phases=2, switch=0.8)


@pytest.fixture(scope="module")
def report_of_phases(tmp_path_factory: pytest.TempPathFactory, two_phases: tuple[FittedLaws, Recommendation]) -> Path:
    """Return the report of two phases."""
    out = tmp_path_factory.mktemp("phases") / "report.html"
    write_report(out, two_phases[0], answer=two_phases[1])
    return out


@pytest.fixture
def phased(tab: Tab, report_of_phases: Path) -> Tab:
    """Return the page of two phases."""
    tab.open("about:blank")
    tab.open(report_of_phases.as_uri())
    return tab


def link(tab: Tab) -> dict[str, float]:
    """Return the numbers of the page's link by name."""
    return {name: float(value) for name, value in parse_qsl(tab.evaluate("location.hash.slice(1)"))}


@pytest.mark.slow
def test_a_page_of_phases_begins_at_those_recommended_and_says_what_they_gain(
    phased: Tab, two_phases: tuple[FittedLaws, Recommendation]
) -> None:
    _, best = two_phases
    plan = best.phases
    assert texts(phased, "#override") == [plan.override]
    assert texts(phased, ".phase legend") == ["Phase 1: 0 to 80\xa0% of D", "Phase 2: 80 to 100\xa0% of D"]
    assert shown(phased, 1)[-1][0] == pytest.approx(plan.predicted, abs=2e-4)
    gains = plan.gains.set_index("target")
    for target, found in zip([*TARGETS, "objective"], shown(phased, 2), strict=True):
        assert found == pytest.approx(gains.loc[target, ["gain", "low", "high"]].tolist(), abs=5e-3)
    assert [line for line in phased.console() if "document idle" not in line] == []


@pytest.mark.slow
def test_phases_and_their_ends_move_by_themselves(phased: Tab, two_phases: tuple[FittedLaws, Recommendation]) -> None:
    before = link(phased)
    phased.evaluate("document.getElementById('end-2').focus()")
    phased.press("ArrowLeft", "ArrowLeft")
    assert link(phased) == before | {"until@1": 0.79}
    phased.evaluate("document.getElementById('w2-0').focus()")
    phased.press("Home")
    after = link(phased)
    assert after["w.code@2"] == 0
    assert {name: w for name, w in after.items() if "@1" in name} == {
        name: w for name, w in (before | {"until@1": 0.79}).items() if "@1" in name
    }
    click(phased, "go to h*")
    gains = [gain for gain, _, _ in shown(phased, 2)]
    assert gains == [0.0] * 3  # h* in all phases is the best single mixture
    click(phased, "go to the phases")
    assert link(phased) == before


@pytest.mark.slow
def test_a_phase_that_breaks_a_limit_is_named(phased: Tab) -> None:
    phased.evaluate("location.hash = '#w.code@1=0.5&w.web@1=0.5&w.code@2=0.95&w.web@2=0.05'")
    phased.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert texts(phased, "#limits li") == [
        "kept: phase 1: web at least 10\xa0%",
        "broken: phase 2: web at least 10\xa0%",
    ]
    assert texts(phased, ".domain.broken label:first-child") == ["web"]


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_page_of_phases_has_them_side_by_side_and_below_each_other_on_a_phone(phased: Tab, dark: bool) -> None:
    top = "[...document.querySelectorAll('.phase')].map((part) => Math.round(part.getBoundingClientRect().top))"
    try:
        phased.shape(1200, dark=dark)
        assert len(set(phased.evaluate(top))) == 1
        phased.shape(390, dark=dark)
        assert len(set(phased.evaluate(top))) == 2
        assert phased.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        phased.shape(1200)
