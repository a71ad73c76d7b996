"""Plan a study, train it, fit it, plan what would tell most next, train that too: by the commands of the README."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mixlaw.tables import read_table
from sweeps.plan import main
from sweeps.study_file import Shape, shapes_of
from tests.train.tiny import call

Tiny = Callable[..., list[str]]
SHORT = ("stream.seq_len=16 stream.batch_size=4 evaluation.n_sequences=8 evaluation.n_points=3 model.depth=1 "
         "stream.max_epochs=50 machine.device=cpu data=quickstart").split()  # fmt: skip
PLAN = ["--models", "text_70k,text_136k,text_234k", "--tokens-per-param", "0.05"]
BIG = ["--n-params", "1e6", "--n-tokens", "1e5", "--target", "reviews"]


@pytest.fixture
def overrides(data_root: Path, tmp_path: Path) -> list[str]:
    return [*SHORT, f"data.root={data_root}", f"machine.runs={tmp_path / 'runs'}"]


@pytest.mark.timeout(900)
def test_the_two_stages(overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, runs = tmp_path / "conf" / "study", tmp_path / "runs" / "tale"
    assert main(["tale", *overrides, *PLAN, "--flops", "1.5e11", "--tokens-per-second", "5000", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "GPU hours at 5000 tokens/s" in said
    assert "standard error of a predicted loss" in said
    for study in ("tale", "tale_seeds"):
        code, printed, err = call("-m", "train", f"study={study}", timeout=280, MIXLAW_CONFIGS=str(out.parent))
        assert (code, err) == (0, ""), printed + err
    planned = read_table([runs])
    assert planned.frame["n_params"].nunique() == 3
    assert planned.frame.groupby("run_id").first()["seed"].nunique() == 4
    laws = runs / "laws.json"
    fit = ["fit", str(runs), "--law", "multiplicative", "--bootstrap", "20", "--out", str(laws)]
    assert call("-m", "mixlaw.cli", *fit)[0] == 0
    capsys.readouterr()
    again = ["tale", "--next", "4", "--laws", str(laws), *BIG, "--out", str(out), f"machine.runs={tmp_path / 'runs'}"]
    assert main(again) == 0
    assert "may be best" in capsys.readouterr().out
    name, shapes = shapes_of(out / "tale_next1.yaml")
    assert name == "tale"
    lengths = {s.overrides[-3:] for s in shapes_of(out / "tale.yaml")[1]}  # model, tokens, warm-up
    assert {s.overrides[-3:] for s in shapes} <= lengths
    code, printed, err = call("-m", "train", "study=tale_next1", timeout=280, MIXLAW_CONFIGS=str(out.parent))
    assert (code, err) == (0, ""), printed + err
    more = read_table([runs]).frame["run_id"].nunique() - planned.frame["run_id"].nunique()
    assert more == 4
    assert call("-m", "mixlaw.cli", *fit)[0] == 0
    assert main(again) == 0
    assert (out / "tale_next2.yaml").exists()
    plan = [json.loads(line) for line in (runs / "plan.jsonl").read_text().splitlines()]
    assert {run["plan"] for run in plan} == {"tale", "tale_seeds", "tale_next1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name at least three models"),
        (PLAN, "say what may be spent"),
        ([*PLAN, "--flops", "1"], "the least study of these sizes"),
        ([*PLAN[:3], "1e6", "--flops", "1e30"], "times, and stream.max_epochs is 50"),
        (["--models", "text_70k,text_71k,text_234k", "--flops", "1e30"], "did you mean"),
        (["--models", "text_70k,text_136k", "--flops", "1e30"], "3 sizes"),
        (["--next", "3"], "say which run is to be decided"),
        (["--next", "3", *BIG], "plan it without --next first"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(
    arguments: list[str], said: str, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tale", *overrides, *arguments, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_study_is_not_overwritten(overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tale_seeds.yaml").touch()
    assert main(["tale", *overrides, *PLAN, "--flops", "1e12", "--out", str(tmp_path)]) == 2
    assert "tale_seeds.yaml is there already" in capsys.readouterr().err


def test_shapes_of_a_study_that_no_planner_wrote() -> None:
    root = Path(__file__).resolve().parents[2] / "sweeps" / "study"
    name, shapes = shapes_of(root / "quickstart.yaml")
    assert name == "quickstart"
    assert shapes == [Shape((f"model={m}",)) for m in ("text_70k", "text_136k", "text_234k")]
    assert [s.label for s in shapes] == ["text_70k", "text_136k", "text_234k"]
