"""The report on finetuning runs: what it derives from their table, its figures, and what it says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.report.drawings import choose_drawings
from mixlaw.report.finetuned import finetuned
from mixlaw.report.injection_text import injection_sentence, injection_table
from mixlaw.report.material import Material
from mixlaw.report.plots_injection import forgotten, injection_cost
from mixlaw.report.sections import sections
from mixlaw.tables.check import check_frame
from tests.mixlaw.advice.test_injection import PRETRAINING, B, forgets, own

BEFORE = {1e8: 2.4, 4e8: 2.0}


def table(shares=(0.0, 0.01, 0.1), tokens=(1e9, 1e10)):
    """Return finetuning runs on chat whose losses the laws predict exactly, each with a row before its end."""
    rows = []
    for n, before in BEFORE.items():
        for d in tokens:
            for share in shares:
                weights = {f"weight_{t}": share * w for t, w in PRETRAINING.items()} | {"weight_chat": 1 - share}
                named = {"run_id": f"{n}-{d}-{share}", "n_params": n, "before_code": before} | weights
                rows += [named | {"n_tokens": part * d} for part in (0.5, 1.0)]
    frame = pd.DataFrame(rows).assign(loss_code=2.5, loss_chat=2.0)
    for target, laws in (("code", forgets(code=B)), ("chat", own())):
        frame[f"loss_{target}"] = laws.best.predict(check_frame(frame, "runs"), targets=[target])["predicted"]
    return check_frame(frame, "runs")


def found(**changes):
    return finetuned(forgets(code=B).best, [table(**changes)], own().best)


def test_the_largest_runs_are_shown_by_their_tokens_with_the_proportions_of_pretraining():
    runs = found()
    assert [amount.tuning.n_tokens for amount in runs.amounts] == [1e9, 1e10]
    for amount in runs.amounts:
        tuning = amount.tuning
        assert (tuning.n_params, tuning.domain, tuning.loss_before) == (4e8, "chat", 2.0)
        assert tuning.pretraining == pytest.approx(PRETRAINING)
    assert runs.most == pytest.approx(0.1)


def test_measured_runs_lie_on_the_curves_of_the_law_that_made_them():
    for amount in found().amounts:
        measured, curve = amount.measured, amount.curve
        assert measured["share"].tolist() == pytest.approx([0, 0.01, 0.1])
        for name in ("forgotten", "cost"):
            np.testing.assert_allclose(measured[name], np.interp(measured["share"], curve["share"], curve[name]), 5e-3)


def test_a_share_beyond_the_runs_is_said_with_what_the_largest_share_of_the_runs_does():
    inside, beyond = (found(shares=shares).amounts[0] for shares in ((0.0, 0.2), (0.0, 0.02)))
    assert inside.found.share == pytest.approx(beyond.found.share)
    assert "beyond the runs" not in injection_sentence(inside.found, inside.tuning)
    said = injection_sentence(beyond.found, beyond.tuning)
    kept = beyond.found.at(beyond.found.most)["kept_away"]
    assert f"This is beyond the runs; 2.0 %, the largest share of the runs, keeps {kept:.0f} % away and adds" in said


def test_without_a_share_that_is_enough_the_best_of_the_runs_is_said():
    runs = finetuned(forgets(code=0.1).best, [table()])
    said = injection_sentence(runs.amounts[0].found, runs.amounts[0].tuning)
    kept = runs.amounts[0].found.at(runs.most)["kept_away"]
    assert said.startswith(
        "No share of pretraining data keeps 90 % of the forgetting away at N = 400M and D = 1B; 10 %"
    )
    assert said.endswith(f"keeps {kept:.0f} % away.")


def test_other_laws_and_runs_without_injection_have_no_such_section():
    assert finetuned(own().best, [table()]) is None
    assert finetuned(forgets(code=B).best, []) is None
    assert finetuned(forgets(code=B).best, [table(shares=(0.0,))]) is None


def test_figures_mark_the_recommended_shares_and_what_lies_beyond_the_runs():
    runs = found(shares=(0.0, 0.02))
    ax = forgotten(None, runs)
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert [star.get_xdata()[0] for star in stars] == [a.found.share for a in runs.amounts]
    assert ax.get_ylabel() == "loss of the pretraining domains [nats]"
    assert "beyond the runs" in [text.get_text() for text in ax.get_legend().get_texts()]
    costs = injection_cost(None, found())
    assert len([line for line in costs.lines if line.get_marker() == "o"]) == 2


def test_the_table_has_every_amount_and_share():
    runs = found()
    shown = injection_table(runs)
    assert len(shown) == sum(len(amount.found.table) for amount in runs.amounts)
    assert list(shown) == ["tokens", "share", "pretraining loss", "forgetting kept away", "added to chat"]


def test_a_report_of_finetuning_runs_has_a_section_and_figures_of_injection():
    material = Material(forgets(code=B), table(), own=own().best)
    assert {"forgotten", "injection_cost"} <= set(choose_drawings(material))
    assert "injection_cost" not in choose_drawings(replace(material, own=None))
    section = next(part for part in sections(material, {}) if part.title == "Pretraining data in finetuning")
    assert "to the loss of chat" in section.body


@pytest.mark.slow
def test_the_command_reports_finetuning_runs_with_the_laws_of_both_kinds(tmp_path):
    table().frame.to_csv(tmp_path / "runs.csv", index=False)
    for name, laws in (("laws", forgets(code=B)), ("own", own())):
        stated = replace(laws.best, settings={"law": laws.chosen})
        replace(laws, fits={laws.chosen: stated}).save(tmp_path / f"{name}.json")
    asked = ["report", f"{tmp_path}/runs.csv", "--laws", f"{tmp_path}/laws.json", "--own", f"{tmp_path}/own.json"]
    assert main([*asked, "--out", f"{tmp_path}/report.html"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "How much pretraining data does finetuning need?" in page
    assert "of the forgetting away at N = 400M and D = 10B and adds" in page
    assert (tmp_path / "figures" / "injection_cost.png").exists()
