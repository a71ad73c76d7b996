"""Runs whose mixture changes: planned in whole steps, logged by phase, resumed and branched to the byte."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.runs.load import load_runs
from tests.marks import all_slow_but, slow
from tests.train.test_branch import weights
from tests.train.test_resume import folder_of, rows
from tests.train.tiny import image_run
from train.compose import compose_config, plan_run
from train.config import PhaseConfig
from train.loop import run
from train.phases import in_steps, requested
from train.plan import Plan

Plans = Callable[..., Plan]
FIRST, SECOND = {"code": 0.75, "docs": 0.25}, {"docs": 0.5, "dialogue": 0.5}


def phases(*parts: tuple[float, dict[str, float]]) -> str:
    """Return the override of phases."""
    texts = (f"{{until:{u},weights:{{{','.join(f'{d}:{w}' for d, w in m.items())}}}}}" for u, m in parts)
    return f"mixture.phases=[{','.join(texts)}]"


TWO = phases((0.5, FIRST), (1.0, SECOND))  # of 12 steps, evaluated after 7, 9 and 12
STATIC = "mixture.weights={code:0.75,docs:0.25}"


def test_a_static_run_keeps_its_id_and_its_bytes_and_states_no_phases(plan: Plans, tmp_path: Path) -> None:
    this = plan(STATIC)
    one_phase = plan(phases((1.0, FIRST)))
    equal = plan(phases((0.3, FIRST), (1.0, FIRST)))
    assert this.run_id == one_phase.run_id == equal.run_id == "235da086a23b"  # of before phases existed
    run(this)
    assert "phases" not in json.loads((folder_of(this) / "run.json").read_text())
    assert not [c for c in load_runs(tmp_path / "runs").table if "@" in c]


def test_phases_are_part_of_the_run_id(plan: Plans) -> None:
    changes = [TWO, phases((0.6, FIRST), (1.0, SECOND)), phases((0.5, SECOND), (1.0, FIRST)), STATIC]
    assert len({plan(change).run_id for change in changes}) == len(changes)
    assert plan(TWO).run_id == plan(phases((384, FIRST), (768, SECOND))).run_id  # the same, in tokens


def test_the_weights_of_the_plan_are_those_of_the_whole_run(plan: Plans) -> None:
    this = plan(phases((0.25, FIRST), (1.0, SECOND)))
    assert [phase.end for phase in this.phases] == [3, 12]
    assert this.weights == pytest.approx({"code": 0.1875, "docs": 0.4375, "dict": 0.0, "dialogue": 0.375})
    assert this.n_tokens == 768


def test_rows_state_what_every_phase_has_read(plan: Plans, tmp_path: Path) -> None:
    this = plan(TWO)
    assert run(this) == "finished"
    table = load_runs(tmp_path / "runs").table.drop_duplicates("step").set_index("step")
    np.testing.assert_allclose(table["until@1"], [6 / 7, 6 / 9, 0.5])
    np.testing.assert_allclose(table["until@2"], 1.0)
    for phase, wanted, n in ((1, FIRST, 24), (2, SECOND, 24)):
        for domain in this.manifest.domains:
            assert abs(table[f"weight_{domain}@{phase}"].iloc[-1] - wanted.get(domain, 0.0)) <= 2 / n
            assert (table[f"requested_{domain}@{phase}"] == wanted.get(domain, 0.0)).all()
    total = [0.5 * table[f"weight_docs@{p}"].iloc[-1] for p in (1, 2)]
    assert table["weight_docs"].iloc[-1] == pytest.approx(sum(total))


def test_a_run_that_is_stopped_at_any_step_ends_with_the_same_bytes(plan: Plans, tmp_path: Path) -> None:
    whole = plan(TWO, f"machine.runs={tmp_path / 'whole'}")
    run(whole)
    this = plan(TWO, "checkpoint.every_steps=1")

    class Killed(BaseException):
        pass

    for step in (4, 6, 7):

        def die(n_tokens: int, loss: float, at: int = step) -> None:
            if n_tokens == at * 64:
                raise Killed

        with pytest.raises(Killed):
            run(this, die)
    assert run(this) == "finished"
    assert weights(this) == weights(whole)
    assert rows(this) == rows(whole)


@pytest.mark.parametrize("more", [slow([]), ["schedule.cooldown=0.5"]], ids=["constant", "cooled in the last phase"])
def test_many_second_phases_branch_from_one_first_phase(more: list[str], plan: Plans, tmp_path: Path) -> None:
    trunk = plan(STATIC, "checkpoint.permanent=[384]", "checkpoint.keep=1", "study_name=trunk")
    run(trunk)
    branch_from = f"checkpoint.branch_from={folder_of(trunk)}"
    for second in (SECOND, {"dict": 1.0}):
        change = phases((0.5, FIRST), (1.0, second))
        whole = plan(change, *more, f"machine.runs={tmp_path / 'whole'}")
        branch = plan(change, *more, branch_from)
        assert branch.run_id == whole.run_id
        assert run(whole) == run(branch) == "finished"
        assert weights(branch) == weights(whole)
        assert rows(branch) == [r for r in rows(whole) if r["step"] > 6]
        assert (folder_of(branch) / "run.json").read_text().count("tokens_by_domain") == 2


@pytest.mark.slow  # trains seven runs
def test_a_folder_of_runs_lends_the_run_that_saves_most(plan: Plans, tmp_path: Path) -> None:
    keep = ["checkpoint.every_steps=1", "checkpoint.keep=12", "study_name=trunks"]
    for other in (["seed=1", STATIC], ["mixture=uniform"], [STATIC, "schedule.n_tokens=256"], [TWO]):
        run(plan(*keep, *other))
    change = phases((0.5, FIRST), (0.75, SECOND), (1.0, FIRST))
    folder = f"checkpoint.branch_from={tmp_path / 'runs' / 'trunks'}"
    whole, branch = plan(change, f"machine.runs={tmp_path / 'whole'}"), plan(change, folder)
    run(whole)
    run(branch)
    assert weights(branch) == weights(whole)
    assert min(r["step"] for r in rows(branch)) == 10  # after the ninth step of the run with two phases
    alone = plan("seed=7", folder)
    assert run(alone) == "finished"
    assert min(r["step"] for r in rows(alone)) == 2  # no trunk: from the start


@pytest.mark.slow  # trains seven runs
def test_a_branch_of_a_run_with_phases_shares_the_phases_that_are_equal(plan: Plans, tmp_path: Path) -> None:
    trunk = plan(TWO, "checkpoint.every_steps=1", "checkpoint.keep=12", "study_name=trunk")
    run(trunk)
    branch_from = f"checkpoint.branch_from={folder_of(trunk)}"
    third = phases((0.5, FIRST), (0.75, SECOND), (1.0, FIRST))
    for change, shared in ((third, 9), (phases((0.75, FIRST), (1.0, SECOND)), 6), (STATIC, 6)):
        whole, branch = plan(change, f"machine.runs={tmp_path / 'whole'}"), plan(change, branch_from)
        run(whole)
        run(branch)
        assert weights(branch) == weights(whole)
        assert min(r["step"] for r in rows(branch)) > shared - 1


@pytest.mark.slow
def test_a_cooled_trunk_lends_no_step_of_its_cooldown(plan: Plans, tmp_path: Path) -> None:
    trunk = plan("schedule.cooldown=0.5", "checkpoint.every_steps=1", "checkpoint.keep=12", "study_name=trunk")
    run(trunk)
    branch = plan(f"checkpoint.branch_from={folder_of(trunk)}")
    whole = plan(f"machine.runs={tmp_path / 'whole'}")
    run(branch)
    run(whole)
    assert weights(branch) == weights(whole)


def test_a_trunk_whose_first_phase_differs_is_refused_before_training(plan: Plans) -> None:
    trunk = plan(STATIC, "study_name=trunk")
    run(trunk)
    other = plan(phases((0.5, SECOND), (1.0, FIRST)), f"checkpoint.branch_from={folder_of(trunk)}")
    with pytest.raises(ConfigError, match=r"differs in mixture \(.* only later phases"):
        run(other)


def test_epochs_are_counted_over_all_phases(plan: Plans) -> None:
    with pytest.raises(ConfigError, match=r"repeats a domain 5\.03 times"):
        plan(phases((0.5, {"code": 1}), (1.0, {"code": 0.999999999, "docs": 1e-9})), "schedule.n_tokens=20000")
    plan(phases((0.5, {"code": 1}), (1.0, {"docs": 1})), "schedule.n_tokens=20000")


@pytest.mark.slow
def test_items_of_several_lengths_have_phases_in_shares_of_tokens(tmp_path: Path) -> None:
    """Steps differ in their tokens between phases: boundaries, D and the learning rate follow the tokens."""
    two = phases((0.5, {"captions": 0.9, "loud": 0.1}), (1.0, {"loud": 1.0}))
    overrides = [o for o in image_run(tmp_path, "vision", two) if not o.startswith("mixture.weights")]
    this = plan_run(compose_config([*overrides, "schedule.n_tokens=9000", "schedule.cooldown=0.2"]))
    first, second = this.phases
    assert first.part.per_step != second.part.per_step
    spent = [this.stream().totals(step)["n_tokens"] for step in (first.end, second.end)]
    one_step = max(first.part.per_step, second.part.per_step)
    assert abs(spent[0] - 4500) <= one_step
    assert 9000 - one_step / 2 <= spent[1] <= 9000 + 2 * one_step
    assert this.n_tokens == pytest.approx(spent[1], rel=0.01)
    realised = this.stream().tokens_by_domain(second.end)
    assert {d: n / spent[1] for d, n in realised.items()} == pytest.approx(dict(this.weights), abs=0.02)
    assert run(this) == "finished"
    last = rows(this)[-1]
    assert last["n_tokens"] == spent[1]


WRONG = {
    "no end": (phases((0.5, FIRST), (0.9, SECOND)), "the last phase ends at 0.9 of the run: its `until` must be 1"),
    "beyond": (phases((0.5, FIRST), (900, SECOND)), "phase 2 ends after 900 tokens, and the run after 768"),
    "order": (
        phases((0.5, FIRST), (0.4, SECOND), (1, FIRST)),
        "phase 2 ends at 0.4 of the run, and must end after 0.5",
    ),
    "zero": (phases((0, FIRST), (1, SECOND)), "phase 1 ends at 0 of the run, and must end after 0"),
    "nan": (phases((float("nan"), FIRST), (1, SECOND)), "phase 1 ends at nan of the run"),
    "short": (phases((0.01, FIRST), (1, SECOND)), "phase 1 has 8 tokens, and a step has 64: make it longer"),
    "short last": (phases((0.99, FIRST), (1, SECOND)), "phase 2 has"),
    "domain": (phases((0.5, {"cod": 1}), (1, SECOND)), "mixture.phases: phase 1: unknown domain 'cod'; did you mean"),
    "sum": (phases((0.5, FIRST), (1, {"code": 0.5})), "mixture.phases: phase 2: weights sum to 0.5, not 1"),
    "no weights": ("mixture.phases=[{until:1}]", "mixture.phases: phase 1: weights sum to 0, not 1"),
    "typo": ("mixture.phases=[{until:1,weigths:{code:1}}]", "mixture.phases[0].weigths: unknown setting 'weigths'"),
    "no list": ("mixture.phases=7", "mixture.phases: it must be a list, and each entry a mapping of until, weights"),
    "list of numbers": ("mixture.phases=[7]", "mixture.phases: it must be a list, and each entry a mapping"),
    "both": (f"{TWO} {STATIC}", "mixture.weights and mixture.phases are both set"),
}


@pytest.mark.parametrize(
    "name", all_slow_but(("no end", "beyond", "order", "short", "domain", "no list", "both"), WRONG)
)
def test_wrong_phases_are_one_sentence(name: str, plan: Plans) -> None:
    overrides, sentence = WRONG[name]
    with pytest.raises(ConfigError) as refused:
        plan(*overrides.split())
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@given(
    shares=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5),
    paces=st.lists(st.one_of(st.integers(1, 2000), st.floats(1.0, 2000.0)), min_size=5, max_size=5),
    n_tokens=st.integers(300_000, 10**9),
)
def test_phases_end_with_the_nearest_step_and_fill_the_run(
    shares: list[float], paces: list[float], n_tokens: int
) -> None:
    ends = np.cumsum(shares) / np.sum(shares)
    ends[-1] = 1.0
    names = ["a", "b"]
    configs = [PhaseConfig(float(u), {"a": i % 2, "b": 1 - i % 2}) for i, u in enumerate(ends)]
    wanted = requested(configs, n_tokens, names)
    found = in_steps(wanted, paces[: len(wanted)], n_tokens)
    assert [mixture for _, mixture in wanted] == [phase.weights for phase in found]
    before = 0
    for phase in found[:-1]:
        assert phase.part.first == before < phase.end
        assert abs(phase.part.tokens_after(phase.end) - phase.until * n_tokens) <= phase.part.per_step * (0.5 + 1e-6)
        before = phase.end
    last = found[-1].part
    assert last.tokens_after(found[-1].end) >= n_tokens * (1 - 1e-12) > last.tokens_after(found[-1].end - 1) - 1e-3
    assert isinstance(found[0].weights, Mixture)
