"""The report, single figures as files, and what notebooks show: self-contained, escaped, and as much as is given."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.cli.plot import KINDS
from mixlaw.errors import ConfigError, RunLogError
from mixlaw.fitting.estimator import LawFit
from mixlaw.mixture import Mixture
from mixlaw.report.answer_tables import path_steps, question, sentences
from mixlaw.report.build import unit_sentence, write_report
from mixlaw.report.drawings import DRAWN, OF_PHASES, ONLY_IN_REPORTS, choose_drawings, draw_one
from mixlaw.report.notebook import answer_html, fit_html, laws_html
from mixlaw.report.proof import prove
from mixlaw.report.templating import html_table, upright
from mixlaw.tables.examples import small_study
from mixlaw.tables.units import NATS
from tests.marks import slow
from tests.mixlaw.answers import answer, answer_facts, laws, names, runs
from tests.mixlaw.benchmarks.curves import curves
from tests.mixlaw.synthetic import warned

STRANGE = ["<b>", "a&b", "<script>alert(1)</script>"]
SIGNS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture(scope="module")
def live() -> Recommendation:
    """Return a recommendation from laws, with a limit that costs something and a mixture in use today."""
    today = {"today": Mixture(names(3), [0.5, 0.3, 0.2])}
    return recommend(laws(3), Question(7e9, 150e9, {"main": 1.0}, caps={"domain0": 0.05}, baselines=today))


def without_pictures(page: str) -> str:
    return re.sub(r'src="data:image/[\w+]+;base64,[A-Za-z0-9+/=]*"', "", without_scripts(page))


def without_scripts(page: str) -> str:
    """Return a page without the script elements at its end, of which the browser's tests are."""
    return page.partition("<!-- Charts by Bokeh")[0]


@pytest.fixture(scope="module")
def everything(live, tmp_path_factory) -> tuple[list[Path], str]:
    """Return the pictures of a report with everything, and its page without them."""
    saved = Recommendation.from_json(json.loads(json.dumps(live.to_json())))
    proof = runs(3)
    for place, mixture in enumerate((live.weights, dict.fromkeys(names(3), 1 / 3))):
        for name, weight in mixture.items():
            proof.frame.loc[place, f"weight_{name}"] = weight
        proof.frame.loc[place, "n_tokens"] = 150e9
    out = tmp_path_factory.mktemp("everything") / "report.html"
    pictures = write_report(out, laws(3), runs(3), runs(3), saved, proof)
    return pictures, without_pictures(out.read_text())


def test_a_report_with_everything_is_one_file_without_network(everything):
    pictures, page = everything
    assert not re.search(r"http|<script|<link|src=|url\(|@import", page)
    made = [p.stem for p in pictures]
    assert made == [
        "optimum",
        "ternary",
        "path",
        "prices",
        "gradient",
        "signals",
        "tradeoff",
        "proof",
        "predicted",
        "errors",
        "residuals",
        "tokens",
        "parameters",
        "overview",
    ]
    assert page.count("<figure") == len(made)  # without the overview, with the chart of gains
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    for words in ("Predicted gain", "Limits that cost something [nats]: max domain0", "Equally good within the noise"):
        assert words in page
    assert "The recommended mixture" in page
    assert "What limits cost" in page
    assert "7B" in page


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, ["parameters"]),
        slow({"answer": answer(7)}, ["optimum", "parallel", "path", "prices", "gradient", "parameters"]),
        slow({"table": runs(7)}, ["predicted", "errors", "residuals", "tokens", "parameters"]),
        ({"test": runs(7)}, ["predicted", "errors", "residuals", "parameters"]),
    ],
)
def test_a_report_draws_what_is_given(tmp_path, given, made):
    pictures = write_report(tmp_path / "report.html", laws(7), **given)
    assert [p.stem for p in pictures] == [*made, "overview"]


@pytest.mark.slow
def test_a_saved_recommendation_with_the_least_that_one_holds_still_makes_a_report(tmp_path):
    facts = answer_facts(3)
    least = {key: facts[key] for key in ("law", "outcomes", "weights", "n_params", "n_tokens", "targets")}
    least["domains"] = [{key: row[key] for key in ("domain", "weight", "low", "high")} for row in facts["domains"]]
    pictures = write_report(tmp_path / "report.html", laws(3), answer=Recommendation.from_json(least))
    assert [p.stem for p in pictures] == ["optimum", "ternary", "parameters", "overview"]


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 17])
def test_reports_of_few_and_of_many_domains(tmp_path, k):
    pictures = write_report(tmp_path / "report.html", laws(k), runs(k), None, answer(k))
    assert "parallel" in [p.stem for p in pictures]
    page = without_pictures((tmp_path / "report.html").read_text())
    assert all(name in page for name in names(k))


def test_names_are_escaped_everywhere(tmp_path):
    strange = warned(laws(3, ("<i>",), STRANGE), "additive", "<u>")
    scores = [{"law": "additive", "target": "<i>", "mre": 1.0, "coverage": 90.0}]
    strange = replace(strange, reason="<u>", scores=scores)
    asked = Recommendation.from_json(answer_facts(3, "<i>", STRANGE) | {"warnings": ["<u>"], "override": "<u>"})
    write_report(tmp_path / "report.html", strange, answer=asked)
    whole = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in whole
    pages = [without_pictures(whole)]
    pages += [fit_html(strange.best), answer_html(asked), laws_html(strange)]
    for page in pages:
        assert not re.search(r"<script|<i>|<u>|a&b|<b><", page)
        assert "&lt;" in page


def test_a_figure_s_type_follows_its_suffix(tmp_path, live):
    for suffix, sign in SIGNS.items():
        draw_one(tmp_path / f"a{suffix}", "optimum", laws(3), None, live)
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(sign)
    for name in ("a", "a.doc"):
        with pytest.raises(ConfigError, match=r"ends in \.png, \.svg or \.pdf"):
            draw_one(tmp_path / name, "optimum", laws(3), None, live)


@pytest.mark.parametrize("kind", [name for name in DRAWN if name not in (*ONLY_IN_REPORTS, *OF_PHASES, "epochs")])
def test_every_figure_is_drawn_or_says_what_it_needs(tmp_path, live, kind):
    draw_one(tmp_path / "a.png", kind, laws(3), runs(3), live)
    needs = {"predicted": "--table TABLE", "tokens": "--table TABLE", "residuals": "--table TABLE"}
    needs |= {"errors": "--table TABLE, or fit with --holdout or --test"}
    if kind in ("parameters", "signals"):
        draw_one(tmp_path / "b.png", kind, laws(3), None, None)
        return
    with pytest.raises(ConfigError, match=needs.get(kind, "--n-params and --n-tokens")):
        draw_one(tmp_path / "b.png", kind, laws(3), None, None)
    assert not (tmp_path / "b.png").exists()


def test_the_command_line_s_figures_are_among_these_and_unknown_ones_get_the_near_match(tmp_path, live):
    assert set(KINDS) <= set(DRAWN)
    with pytest.raises(ConfigError, match="did you mean 'ternary'"):
        draw_one(tmp_path / "a.png", "ternery", laws(3), None, live)
    with pytest.raises(ConfigError, match="use optimum"):
        draw_one(tmp_path / "a.png", "ternary", laws(7), None, answer(7))


def test_held_out_scores_are_drawn_without_a_table(tmp_path):
    scored = replace(laws(3), scores=[{"law": "additive", "target": "main", "mre": 1.0}])
    draw_one(tmp_path / "a.png", "errors", scored, None, None)
    assert (tmp_path / "a.png").stat().st_size > 5_000


def test_a_saved_answer_looks_like_a_live_one(live):
    saved = Recommendation.from_json(json.loads(json.dumps(live.to_json())))
    assert answer_html(saved) == answer_html(live)
    assert sentences(saved) == sentences(live)


def test_tables_of_many_columns_grow_downwards():
    wide = pd.DataFrame([{"mixture": "uniform"} | {f"t{i}": 0.5 for i in range(9)}])
    assert list(upright(wide).columns) == ["mixture", "uniform"]
    assert list(upright(wide)["mixture"]) == [f"t{i}" for i in range(9)]
    assert upright(wide.iloc[:, :8]).shape == (1, 8)


def test_words_stand_on_the_left_and_numbers_have_four_digits():
    page = html_table(
        pd.DataFrame({"a": ["x", ""], "b": [1.23456, float("nan")], "c": [1.2e-7, 801685], "d": ["y" * 99, ""]})
    )
    assert '<td class="text">x</td><td>1.235</td><td>1.2e-07</td><td class="long">y' in page
    assert '<td class="text"></td><td></td><td>8.017e+05</td>' in page


def test_a_path_that_goes_nowhere_is_not_shown():
    facts = answer_facts(3)
    assert len(path_steps(answer(3))) == 3
    for step in facts["path"]:
        step |= {"n_params": 1e6, "n_tokens": 1e9 * (1 - 1e-12)}
    assert path_steps(Recommendation.from_json(facts)) == []


def test_many_targets_are_counted_not_listed():
    many = Recommendation.from_json(answer_facts(3) | {"targets": {f"t{i}": 1 / 13 for i in range(13)}})
    assert question(many).endswith("the mean of 13 targets:")


def test_headings_can_be_jumped_to(everything):
    _, page = everything
    links = re.findall(r'<a href="#([\w-]+)">', page)
    assert links[:4] == ["try-a-mixture", "the-recommendation", "the-proof", "can-the-laws-be-trusted"]
    assert links == re.findall(r'<h2 id="([\w-]+)">', page)


def test_what_notebooks_show():
    fit = LawFit("additive", n_starts=2, n_bootstrap=4).fit(small_study()).fitted_
    assert "gamma_code" in fit_html(fit)
    shown = answer_html(answer(3))
    assert "For 7B parameters on 150B tokens, best at main:" in shown
    assert "+0.2000 nats over uniform (+0.1000 to +0.3000)" in shown
    assert "Limits that cost something [nats]: group web 0.0020, min domain0 0.0123." in shown
    scores = pd.DataFrame({"law": ["a", "a", "b"], "target": ["x", "y", "x"], "mre": [1, 2, 3]}).to_dict("records")
    many = replace(laws(3), scores=scores)
    assert "Chosen: additive" in laws_html(many)
    assert "9 mixtures" in laws_html(many)


def test_a_figure_can_be_drawn_on_one_s_own_axes():
    from matplotlib.figure import Figure

    from mixlaw.report.material import Material

    drawings = choose_drawings(Material(laws(3), runs(3), None, answer(3)))
    for draw in drawings.values():
        ax = Figure().subplots()
        assert draw(ax) is ax


def test_a_proof_of_other_targets_or_domains_is_refused():
    with pytest.raises(RunLogError, match="no loss_other, which the recommendation uses"):
        prove(answer(3, "other"), runs(3))
    with pytest.raises(RunLogError, match="no weight_domain2"):
        prove(answer(3), runs(2))


@pytest.mark.slow
def test_a_picture_of_predictions_is_taken_in_and_a_missing_one_is_named(tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"\x89PNG a picture")
    write_report(tmp_path / "r.html", laws(3), predictions=picture)
    page = (tmp_path / "r.html").read_text()
    assert "Predictions of a proof run" in page
    assert base64.b64encode(b"\x89PNG a picture").decode() in page
    assert "Losses in nats per token;" in page
    with pytest.raises(ConfigError, match=r"none\.png: cannot be read"):
        write_report(tmp_path / "r.html", laws(3), predictions=tmp_path / "none.png")


def test_patches_have_a_unit_of_their_own():
    assert unit_sentence({"web": "training loss", "web-image": "squared error", "web-text": NATS}).count("-image") == 1
    assert unit_sentence({"web": NATS, "images": NATS}) == "Losses in nats per token"
    assert unit_sentence({"web": "bits/byte", "arc": "error rate", "piqa": "error rate"}) == (
        "Units: web: losses in bits/byte; arc and 1 more: error rate"
    )


def test_benchmarks_have_a_section_with_verdicts_and_a_figure_each(tmp_path):
    out = tmp_path / "report.html"
    files = write_report(out, laws(3), benchmarks=curves())
    page = without_pictures(out.read_text())
    assert {"score_1.png", "score_2.png"} <= {file.name for file in files}
    for words in ("<h2 id=", "quiz: predictable", "exam: not predictable from these runs: all runs are at chance"):
        assert words in page


def test_benchmarks_of_other_laws_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the benchmark exam needs a law of its loss: unknown target 'ghost'"):
        write_report(tmp_path / "report.html", laws(3), benchmarks=curves("main", "ghost"))
