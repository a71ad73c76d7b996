"""Some runs of each small study of the paper, on small local data in the layouts of the large ones, to their ends."""

from pathlib import Path

import pytest
import yaml

import data.prepare
from mixlaw.runs.load import load_runs
from tests.commands import train_here
from tests.studies.small_data import write_all
from train.compose import ROOT
from train.grids import choices

TARGETS = {"llm": {"openhermes"}, "nmm": {"highquality"}, "lvm": set()}
SHORT = "schedule.n_tokens=6144 schedule.warmup_tokens=1024 evaluation.n_sequences=4 stream.max_epochs=20".split()


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return where small data lie, by the variables that the configurations name."""
    folder = tmp_path_factory.mktemp("small")
    return write_all(folder / "source", 160_000, 250) | {"MIXLAW_CACHE": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "sizes"),
    [("llm", "412m 834m"), ("nmm", "106m 275m"), ("lvm", "89m 157m")],
)
def test_runs_of_two_mixtures_finish(
    family: str,
    sizes: str,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    prepared = data.prepare.prepare(data.prepare.compose_config([f"data=paper_{family}_small"]), lambda line: None)
    study = yaml.safe_load((ROOT / f"sweeps/study/paper_{family}_small.yaml").read_text())
    weights = study["hydra"]["sweeper"]["grids"][0]["mixture.weights"]
    mixtures = choices([f"mixture.weights={weights}"])["mixture.weights"][:2]
    experiments = [f"paper_{family}_small/{size}" for size in sizes.split()]
    weights = "mixture.weights=" + ",".join(m.partition("=")[2] for m in mixtures)
    chosen = [f"study=paper_{family}_small", f"experiment={','.join(experiments)}", weights]
    assert train_here("-m", *chosen, *SHORT, f"machine.runs={tmp_path}") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count(": finished\n") == 2 * len(experiments)
    table = load_runs(tmp_path / f"paper_{family}_small").table
    assert table["run_id"].nunique() == 2 * len(experiments)
    assert {*prepared.domains, *TARGETS[family]} <= set(table["domain"])
    last = table[table["n_tokens"] == table.groupby("run_id")["n_tokens"].transform("max")]
    for domain in (*prepared.domains, *TARGETS[family]):
        first = table[(table["domain"] == domain) & (table["n_tokens"] == table["n_tokens"].min())]["loss"].mean()
        assert last[last["domain"] == domain]["loss"].mean() < first
