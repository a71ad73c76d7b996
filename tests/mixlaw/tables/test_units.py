"""Every number that is shown has the unit of its target, from the table to the report."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.errors import ConfigError, RunLogError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.check import check_frame
from mixlaw.tables.read import read_table
from mixlaw.tables.units import NATS, canonical_unit, mixed_warning, named_unit, together, units_of, with_stated

DOMAINS = ("law", "news", "chat")


def runs(**targets: float) -> pd.DataFrame:
    """Return runs of three domains whose targets are an additive law times a level each."""
    rows = []
    for i, h in enumerate(np.random.default_rng(0).dirichlet(np.ones(3), 9)):
        for n in (1e7, 3e7, 9e7):
            for d in (2e9, 4e9, 8e9):
                row = {"run_id": f"{i}-{n:g}", "n_params": n, "n_tokens": d}
                row |= {f"weight_{name}": w for name, w in zip(DOMAINS, h, strict=True)}
                loss = 1 + 60 / n**0.3 + 300 / d**0.3 + 0.1 / (h[0] + 0.1) ** 0.5
                rows.append(row | {f"loss_{t}": level * loss for t, level in targets.items()})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("web_bpb", "bits/byte"),
        ("bpb/web", "bits/byte"),
        ("c4_bits_per_byte", "bits/byte"),
        ("PPL-wiki", "perplexity"),
        ("perplexity_c4", "perplexity"),
        ("wer", "error rate"),
        ("arc_error_rate", "error rate"),
        ("t_err", "error rate"),
        ("text_bpc", "bits/character"),
        ("brier", "Brier score"),
        ("errata", ""),
        ("supply", ""),
        ("c4", ""),
        ("bits", ""),
    ],
)
def test_names_state_units(name: str, unit: str) -> None:
    assert named_unit(name) == unit


def test_a_domain_of_errors_is_a_loss_and_per_cent_are_per_cent() -> None:
    frame = pd.DataFrame({"loss_error": [3.1, 2.9], "loss_err": [0.4, 0.3], "loss_top_err": [41.0, 39.0]})
    assert units_of(frame, ["error", "err", "top_err"]) == {
        "error": NATS,
        "err": "error rate",
        "top_err": "error rate in %",
    }


def test_shares_of_right_answers_become_error_rates_and_images_have_squared_errors() -> None:
    frame = runs(acc=0.1, x=1.0)
    assert check_frame(frame, "t", higher_is_better=["acc"]).units == {"acc": "error rate", "x": NATS}
    vision = runs(**{"a": 1.0, "a-image": 0.5, "a-text": 1.0, "b-image": 1.0})
    assert check_frame(vision, "t").units == {
        "a": "training loss",
        "a-image": "squared error",
        "a-text": NATS,
        "b-image": NATS,
    }


def test_a_person_states_units_by_patterns_and_what_fits_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    runs(x=1.0, y=1.0).to_csv(path, index=False)
    assert read_table([path], units={"*": "bits per byte"}).units == {"x": "bits/byte", "y": "bits/byte"}
    assert read_table([path], units={"*": "bpb", "y": "nats"}).units == {"x": "bits/byte", "y": NATS}
    with pytest.raises(ConfigError, match="--units z=bpb: unknown target 'z'"):
        read_table([path], units={"z": "bpb"})
    with pytest.raises(ConfigError, match="write a unit"):
        with_stated({"x": NATS}, {"x": " "})
    other = tmp_path / "u.csv"
    runs(x=1.0).rename(columns={"loss_x": "loss_x_bpb"}).to_csv(other, index=False)
    renamed = read_table([other], columns={"loss_x_bpb": "loss_x"})
    assert renamed.units == {"x": "bits/byte"}
    with pytest.raises(RunLogError, match=r"loss_x is in nats/token in .*t\.csv, and in bits/byte in .*u\.csv"):
        read_table([path, other], columns={"loss_x_bpb": "loss_x"})
    assert read_table([path, other], columns={"loss_x_bpb": "loss_x"}, units={"x": "bpb"}).units["x"] == "bits/byte"


def test_units_of_one_s_own_column_names_survive_renaming(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    runs(a=1.0, b=1.0, c=0.1).rename(columns={"loss_a": "bpb a", "loss_b": "val_b", "loss_c": "error/c"}).to_csv(path)
    table = read_table([path], columns={"bpb *": "loss_*", "val_*": "loss_*", "error/*": "loss_*"})
    assert table.units == {"a": "bits/byte", "b": NATS, "c": "error rate"}


def test_words_for_units() -> None:
    assert canonical_unit("Bits / Byte") == "bits/byte"
    assert canonical_unit("PPL") == "perplexity"
    assert canonical_unit("joule") == "joule"
    assert together(["a", "a"]) == "a"
    assert together(["a", "b"]) == "mixed units"
    assert together([]) == NATS
    assert mixed_warning({"x": 0.5, "y": 0.5}, {"x": NATS, "y": NATS}) == []
    (text,) = mixed_warning({"x": 0.5, "y": 0.5}, {"x": NATS, "y": "error rate"})
    assert "(nats/token: x; error rate: y)" in text


def shown(
    tmp_path: Path,
    frame: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
    *more: str,
    names: Sequence[str] = ("check", "fit", "predict", "recommend", "json", "report"),
) -> dict[str, str]:
    """Return what each named command says of a table whose last rows are runs that no law saw; `page`: the report."""
    table, laws, answer = tmp_path / "t.csv", tmp_path / "laws.json", tmp_path / "answer.json"
    frame.assign(seed=0).to_csv(table, index=False)
    fit = ["--law", "additive", "--n-bootstrap", "4", "--n-starts", "4", "--holdout", "scale"]
    big = ["--n-params", "1e9", "--n-tokens", "1e10"]
    commands = {
        "check": ["check", str(table), *more],
        "fit": ["fit", str(table), *more, *fit, "--out", str(laws)],
        "predict": ["predict", str(laws), str(table), *more],
        "recommend": ["recommend", str(laws), *big, "--cap", "law=0.4"],
        "json": ["recommend", str(laws), *big, "--cap", "law=0.4", "--json", "--out", str(answer)],
        "report": [
            "report",
            str(table),
            *more,
            "--laws",
            str(laws),
            "--recommendation",
            str(answer),
            "--out",
            str(tmp_path / "report.html"),
        ],
    }
    said = {}
    for name in names:
        assert main(commands[name]) == 0, capsys.readouterr().err
        said[name] = capsys.readouterr().out
    if "report" in names:
        said["page"] = (tmp_path / "report.html").read_text(encoding="utf-8")
    return said


def without_pictures(page: str) -> str:
    return re.sub(r"base64,[^\"]+", "", page)


@pytest.mark.slow  # all commands, with a report
@pytest.mark.parametrize(
    ("target", "more", "words"),
    [
        ("bpb_law", [], "bits/byte"),
        ("law", ["--unit", "*=bits/byte"], "bits/byte"),
        ("law_ppl", [], "perplexity"),
        ("law_err", [], "error rate"),
    ],
)
def test_all_commands_show_the_unit_of_the_target_and_never_nats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, more: list[str], words: str
) -> None:
    level = {"error rate": 0.2, "bits/byte": 0.4}.get(words, 4.0)
    said = shown(tmp_path, runs(**{target: level}), capsys, *more)
    page = without_pictures(said.pop("page"))
    for name in ("check", "predict", "recommend", "json"):
        assert words in said[name], said[name]
    footer = page.lower().split("made by mixlaw")[1]
    assert f"{'losses in ' if words == 'bits/byte' else ''}{words}; intervals " in footer
    assert re.search(r"; intervals (are 90\s%|held \d+\s% of held-out losses), from resampling", footer)
    for name, text in [*said.items(), ("page", page)]:
        assert "nats" not in text, (name, text)
    assert json.loads(said["json"])["unit"] == words


@pytest.mark.slow  # all commands, with a report
def test_losses_in_nats_are_shown_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(tmp_path, runs(law=1.0), capsys, names=("fit", "predict", "recommend", "json", "report"))
    assert "gain of h* over it [nats/token]" in said["recommend"]
    assert "regret [nats]" in said["recommend"]
    assert "unit" not in said["predict"]
    page = said["page"].replace("\u00a0", " ")
    assert re.search(r"Losses in nats per token; intervals (are 90\s%|held \d+\s% of held-out losses), from", page)


def test_a_mean_over_units_is_said_and_its_differences_are_in_mixed_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = runs(law=1.0, news_err=0.2)
    said = shown(tmp_path, frame, capsys, names=("fit", "recommend"))
    assert "mixed units" not in said["recommend"]  # the average is over the domain that is a target: law
    laws = str(tmp_path / "laws.json")
    assert main(["recommend", laws, "--n-params", "1e9", "--n-tokens", "1e10", "--target", "law:1,news_err:1"]) == 0
    out = capsys.readouterr().out
    assert "warning: the target is a mean of values in different units (nats/token: law; error rate: news_err)" in out
    assert "[mixed units]" in out
    assert "nats]" not in out


def test_axes_of_figures_have_the_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mixlaw.advice.constraints import Question
    from mixlaw.advice.recommend import recommend
    from mixlaw.fitting.estimator import LawFit
    from mixlaw.report import plots_laws as plots
    from mixlaw.report import plots_mixture
    from mixlaw.report.plots_ternary import ternary

    table = check_frame(runs(law_err=0.2), "t")
    fit = LawFit("additive", n_starts=4, n_bootstrap=4).fit(table).fitted_
    assert fit.target("law_err").unit == "error rate"
    laws = FittedLaws.of({"additive": fit}, table, "additive", "", pd.DataFrame())
    answer = recommend(laws, Question(1e9, 1e10, {"law_err": 1.0}, caps={"law": 0.3}))
    assert plots.loss_against_tokens(None, table, fit, "law_err").get_ylabel() == "error rate"
    ax = plots.predicted_against_observed(None, fit.predict(table), unit=fit.unit_of())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("measured error rate", "predicted error rate")
    assert plots.residuals(None, fit, table, against="loss").get_xlabel() == "measured error rate"
    row = {"mixture": "uniform", "predicted": 0.3, "low": 0.2, "high": 0.4, "measured": 0.3}
    assert plots.proof(None, [row], "law", "error rate").get_ylabel() == "law error rate"
    assert plots_mixture.gradient(None, answer).get_xlabel() == "change of the target's error rate per 1 % more"
    assert plots_mixture.prices(None, answer).get_xlabel().endswith("[error rate]")
    for ax in (ternary(None, answer, laws), plots_mixture.parallel(None, answer, laws)):
        assert [a.get_ylabel() for a in ax.figure.axes[1:]] == ["predicted error rate at the big run"]
    assert "regret [error rate]" in [t.get_text().split("\n")[-1] for t in plots_mixture.path(None, answer).texts]


def test_laws_without_units_are_in_nats_per_token(tmp_path: Path) -> None:
    from mixlaw.fitting.estimator import LawFit
    from mixlaw.fitting.saved import _sha256

    path = tmp_path / "laws.json"
    table = check_frame(runs(law_bpb=0.3), "t")
    fit = LawFit("base", n_starts=2, n_bootstrap=2).fit(table).fitted_
    FittedLaws.of({"base": fit}, table, "base", "", pd.DataFrame()).save(path)
    assert FittedLaws.load(path).best.target("law_bpb").unit == "bits/byte"
    older = json.loads(path.read_text())
    for name in ("doubts", "identity", "choice", "sha256"):
        del older[name]
    del older["laws"]["base"]["targets"]["law_bpb"]["unit"]
    path.write_text(json.dumps(older | {"sha256": _sha256(older)}))
    loaded = FittedLaws.load(path)
    assert loaded.best.target("law_bpb").unit == NATS
    assert (loaded.doubts, loaded.identity, loaded.choice) == ([], {}, {})


def test_doubts_of_a_table_are_warnings_of_check_fit_and_of_every_recommendation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = runs(law=1.0, news=1.1)
    odd = np.arange(len(frame)) % 3 == 0
    frame.loc[odd, ["loss_law", "loss_news"]] = np.exp(frame.loc[odd, ["loss_law", "loss_news"]])
    table, laws = tmp_path / "t.csv", tmp_path / "laws.json"
    frame.to_csv(table, index=False)
    said = f"warning: {table} rows 1, 4, 7 and 24 more (27 of 81): loss_law, loss_news: the logarithm"
    assert main(["check", str(table)]) == 0
    assert said in capsys.readouterr().out
    assert (
        main(["fit", str(table), "--law", "additive", "--n-bootstrap", "2", "--n-starts", "2", "--out", str(laws)]) == 0
    )
    assert capsys.readouterr().err.count(said) == 1
    assert main(["recommend", str(laws), "--n-params", "1e9", "--n-tokens", "1e10"]) == 0
    assert said in capsys.readouterr().out
