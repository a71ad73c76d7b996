"""The parts of the demo that need no training; the road itself is `make demo-short`, which .ci/run walks."""

import json

import pandas as pd

from mixlaw.advice.recommendation import Recommendation
from mixlaw.forecast.folder import SEALED
from mixlaw.report.proof import prove, verdict
from mixlaw.tables.check import check_frame
from scripts.demo import ROADS, proof_mixtures, sealed_path
from train.compose import compose_config


def outcome(name: str, a: float, predicted: float) -> dict[str, object]:
    weights = {"a": a, "b": 1 - a}
    return {
        "mixture": name,
        "weights": weights,
        "predicted": predicted,
        "low": predicted - 0.1,
        "high": predicted + 0.1,
    }


ANSWER = Recommendation.from_json(
    {
        "law": "additive",
        "n_params": 1e6,
        "n_tokens": 1000,
        "targets": {"t": 1.0},
        "weights": {"a": 0.9, "b": 0.1},
        "domains": [
            {"domain": "a", "weight": 0.9, "low": 0.8, "high": 1.0},
            {"domain": "b", "weight": 0.1, "low": 0.0, "high": 0.2},
        ],
        "outcomes": [outcome("recommended", 0.9, 2.0), outcome("uniform", 0.5, 2.2)],
        "override": "",
    }
)


def runs(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    columns = ["run_id", "n_tokens", "weight_a", "loss_t"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(n_params=1e6, weight_b=1 - frame["weight_a"])


def test_the_proof_matches_runs_with_mixtures_at_the_asked_tokens():
    frame = runs(("x", 500, 0.9, 3.0), ("x", 1000, 0.901, 2.05), ("y", 1000, 0.499, 2.15), ("z", 1000, 0.7, 9.0))
    rows = prove(ANSWER, check_frame(frame, "proof"))
    assert [(r["mixture"], r["measured"]) for r in rows] == [("recommended", 2.05), ("uniform", 2.15)]
    assert "recommended mixture won: +0.1000 to uniform" in verdict(rows)
    assert "2 of 2 measured losses lie inside" in verdict(rows)


def test_a_lost_proof_is_said():
    frame = runs(("x", 1000, 0.9, 2.5), ("y", 1000, 0.5, 2.2))
    assert "did not win: -0.3000 to uniform" in verdict(prove(ANSWER, check_frame(frame, "proof")))
    assert "not complete" in verdict(prove(ANSWER, check_frame(frame[:1], "proof")))


def test_the_proof_s_sweep_is_what_the_trainer_takes(tmp_path):
    weights = {"code": 1 / 3, "docs": 0.0, "dict": 2 / 3 - 1e-7, "dialogue": 1e-7}
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({"outcomes": [{"weights": weights}, {"weights": dict.fromkeys(weights, 0.25)}]}))
    sweep = proof_mixtures(path)
    first = sweep.split("},")[0] + "}"
    assert sum(compose_config([first]).mixture.weights.values()) == 1
    assert sweep.count("{") == 2


def test_another_answer_has_another_forecast(tmp_path):
    path = tmp_path / "recommendation.json"
    ANSWER.save(path)
    first = sealed_path(path)
    path.write_text(path.read_text().replace("2.2", "2.3"))
    assert first.parent == tmp_path
    assert first.match(SEALED)
    assert sealed_path(path) != first


def test_the_question_asks_for_the_tokens_that_the_proof_trains():
    for road in ROADS.values():
        config = compose_config(road.train("_proof")[3:])
        assert config.schedule.n_tokens == road.n_tokens
        assert config.data.name == road.data
        assert road.target in config.data.targets
        assert config.study_name == f"{road.name}_proof"
