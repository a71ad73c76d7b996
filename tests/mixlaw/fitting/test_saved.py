"""laws.json: what was fitted comes back exactly, predicts elsewhere, and a damaged file is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.errors import RunLogError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.saved import FittedLaws, data_sha256, fit_to_json
from mixlaw.laws.registry import LAWS, register
from tests.mixlaw.synthetic import DOMAINS, laws_of, study

BIG = Question(1e9, 1e11, {"main": 1.0}, {}, {})
QUICK = {"n_starts": 6, "n_bootstrap": 4}


def test_saved_laws_predict_and_recommend_exactly_as_before(tmp_path):
    table = study("additive", noise=0.01)
    laws = laws_of(table, "additive", **QUICK)
    wider = laws.best.widened_by(1.5, {"main": {"n_params": 0.01}})
    laws = replace(laws, sizes=dict.fromkeys(DOMAINS, 1e9), fits={"additive": wider})
    laws.save(tmp_path / "new/laws.json")
    loaded = FittedLaws.load(tmp_path / "new/laws.json")
    pd.testing.assert_frame_equal(loaded.best.predict(table), laws.best.predict(table))
    assert recommend(loaded, BIG).to_json() == recommend(laws, BIG).to_json()
    for name in ("chosen", "reason", "ranges", "sizes", "noise", "scores", "data_sha256"):
        assert getattr(loaded, name) == getattr(laws, name)
    assert np.array_equal(loaded.mixtures, laws.mixtures)
    assert loaded.best.settings == laws.best.settings
    assert loaded.best.target("main").statement == laws.best.target("main").statement


def test_the_file_says_what_a_reader_asks(tmp_path):
    laws = laws_of(study("additive", noise=0.01), "additive", **QUICK)
    laws.save(tmp_path / "laws.json")
    facts = json.loads((tmp_path / "laws.json").read_text())
    law = facts["laws"]["additive"]
    assert law["formula"] == "E + 1/sum C_i h_i^gamma_i + A/N^alpha + B/D^beta"
    assert "arXiv 2507.09404" in law["source"]
    assert len(law["bounds"][0]) == len(law["bounds"][1]) == 11
    value, low, high = law["targets"]["main"]["parameters"]["alpha"]
    assert low <= value <= high
    assert {"mixlaw_version", "data_sha256", "scores", "ranges", "reason", "chosen"} <= set(facts)


def test_the_hash_of_the_data_changes_with_any_number_and_with_nothing_else():
    table = study("additive", noise=0.01)
    same = study("additive", noise=0.01)
    same.frame["comment"] = "other"
    assert data_sha256(table) == data_sha256(same)
    same.frame.loc[7, "loss_main"] += 1e-9
    assert data_sha256(table) != data_sha256(same)


@pytest.mark.slow  # writes hundreds of files
def test_damaged_laws_are_refused_or_are_the_same_laws(tmp_path):
    path = tmp_path / "laws.json"
    tiny = study("base", n_mixtures=3, sizes=(1e8, 5e8), tokens=(2e9, 1e10))
    laws_of(tiny, "base", n_starts=2, n_bootstrap=1).save(path)
    raw, whole = path.read_bytes(), fit_to_json(FittedLaws.load(path).best)
    for length in range(0, len(raw), 3):
        path.write_bytes(raw[:length])
        with pytest.raises(RunLogError):
            FittedLaws.load(path)
    refused = 0
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ (1 << place % 8)]) + raw[place + 1 :])
        try:
            assert fit_to_json(FittedLaws.load(path).best) == whole
        except RunLogError:
            refused += 1
    assert refused > 0.9 * len(raw)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '"laws"', "[" * 99999, '{"format": 1}', '{"format": 2}', "\xff"]
)
def test_a_file_that_holds_no_laws_is_refused(tmp_path, text):
    path = tmp_path / "laws.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RunLogError, match=r"laws.json (is not a laws.json file|has format 1)"):
        FittedLaws.load(path)
    with pytest.raises(RunLogError, match=r"absent.json does not exist: make it with"):
        FittedLaws.load(tmp_path / "absent.json")
    with pytest.raises(RunLogError, match=r"is not a laws\.json file"):
        FittedLaws.load(tmp_path)


def test_a_law_that_is_not_registered_here_is_named(tmp_path):
    laws = laws_of(study("additive", noise=0.01), "additive", **QUICK)
    register(replace(LAWS["additive"], name="own"))
    own = replace(laws, fits={"own": replace(laws.best, law=LAWS["own"], settings={"law": "own"})}, chosen="own")
    own.save(tmp_path / "own.json")
    assert FittedLaws.load(tmp_path / "own.json").best.name == "own"
    LAWS.pop("own")
    with pytest.raises(RunLogError, match=r"own.json holds the law 'own', which is not registered here"):
        FittedLaws.load(tmp_path / "own.json")


def test_laws_and_estimators_show_themselves_in_one_line():
    laws = laws_of(study("additive", noise=0.01), "additive", **QUICK)
    assert repr(laws) == "FittedLaws(additive; chosen: additive)"
    assert repr(laws.best) == "FittedLaw(additive; domains: code, docs, web; targets: main)"
    assert repr(LawFit("additive", n_starts=6)) == "LawFit(law='additive', n_starts=6)"
