"""What all formats share, and mistakes in what is asked."""

import ast
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

import mixlaw
from mixlaw import Mixture, export_mixture
from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.errors import ConfigError
from mixlaw.export.registry import FORMATS
from tests.mixlaw.answers import answer

ODD = Mixture.of({'a"b': 0.25, "c'd\n- e: f": 0.25, "网络 #1": 0.25, "\\N{x}": 0.25})
PATHS = {name: f"/data/{i}" for i, name in enumerate(ODD)}


def literals(text: str) -> dict[str, tuple[str, float]]:
    """Return `SOURCES` of a Python file that imports a library which may be absent."""
    _, _, rest = text.partition("SOURCES = ")
    return ast.literal_eval(rest.partition("\n\n\ndef ")[0])


def weights(to: str, text: str) -> list[float]:
    """Return the weights of a file."""
    if to == "megatron":
        return [float(word) for word in text.split()[::2]]
    if to in ("litdata", "hf", "webdataset"):
        return [share for _, share in literals(text).values()]
    facts = yaml.safe_load(text)
    read = {
        "hydra": lambda: list(facts["weights"].values()),
        "nemo": lambda: facts["paths"][::2],
        "olmo-core": lambda: [s["target_ratio"] for s in facts["sources"]],
        "mosaicml": lambda: [s["proportion"] for s in facts["streams"].values()],
    }
    return read[to]()


@pytest.mark.parametrize("to", FORMATS)
def test_any_name_can_be_written(to: str) -> None:
    text = str(export_mixture(ODD, to, paths=PATHS))
    assert weights(to, text) == [0.25] * 4


@pytest.mark.parametrize("to", FORMATS)
def test_a_recommendation_is_exported_with_its_weights(to: str) -> None:
    recommended = answer(45)
    text = str(export_mixture(recommended, to))
    assert weights(to, text) == pytest.approx(list(recommended.weights.values()), abs=1e-4)
    assert sum(weights(to, text)) == pytest.approx(1, abs=1e-12)


def test_comments_say_where_the_mixture_comes_from() -> None:
    made = export_mixture(answer(2), "olmo-core", available={"domain0": 10e9})
    assert f"# Written by mixlaw {mixlaw.__version__}: the mixture that the additive law recommends for N = 7B" in str(
        made
    )
    assert "5.0000" in made.notes  # epochs: a third of 150e9 tokens
    assert all(line.startswith("#") for line in made.notes.splitlines())


def test_lengths_are_assumed_equal_with_a_note() -> None:
    assert "equally long" in export_mixture(answer(2), "hf").notes
    assert "equally long" not in export_mixture(answer(2), "hf", mean_tokens={"domain0": 9, "domain1": 9}).notes
    assert "equally long" not in export_mixture(answer(2), "megatron").notes


def test_unknown_formats_and_useless_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="--to: unknown format 'megatorn'; did you mean 'megatron'"):
        export_mixture(answer(2), "megatorn")
    with pytest.raises(ConfigError, match="--mean-tokens: nemo draws sequences of equal length"):
        export_mixture(answer(2), "nemo", mean_tokens={"domain0": 9, "domain1": 9})


def test_megatron_refuses_blanks() -> None:
    for path in ("/data/a b", " /data/a", "/data/a "):
        with pytest.raises(ConfigError, match="has a blank, at which Megatron splits"):
            str(export_mixture({"code": 1.0}, "megatron", paths={"code": path}))


def test_saving_writes_the_text(tmp_path: Path) -> None:
    made = export_mixture({"code": 1.0}, "nemo")
    made.save(tmp_path / "new" / "blend.yaml")
    assert (tmp_path / "new" / "blend.yaml").read_text() == str(made)
    with pytest.raises(IsADirectoryError):
        made.save(tmp_path)


@pytest.mark.parametrize("to", FORMATS)
def test_every_phase_is_exported_as_a_mixture_with_its_tokens(to: str) -> None:
    both = [Mixture.of({"domain0": 0.75, "domain1": 0.25}), Mixture.of({"domain0": 0.125, "domain1": 0.875})]
    nothing = pd.DataFrame()
    plan = PhasePlan([0.8, 1.0], both, nothing, 2.0, nothing, nothing)
    recommended = replace(answer(2), phases=plan)
    for number, mixture in enumerate(both, 1):
        made = export_mixture(recommended, to, phase=number, available={"domain0": 1e12, "domain1": 1e12})
        assert weights(to, str(made)) == pytest.approx(list(mixture.values()))
        assert f"phase {number} of 2" in made.notes
        assert "best single mixture" not in made.notes
        assert FORMATS[to].next_phase in made.notes
        assert made.blend.domains[0].epochs == pytest.approx((0.8, 0.2)[number - 1] * 150e9 * mixture["domain0"] / 1e12)
    whole = export_mixture(recommended, to)
    assert weights(to, str(whole)) == weights(to, str(export_mixture(answer(2), to)))
    assert "the recommended phases are not in this file" in whole.notes


@pytest.mark.parametrize(
    ("phases", "phase", "said"),
    [
        (None, 1, "has no phases"),
        (None, "all", "has no phases"),
        (2, 3, "has 2 phases; give 1 to 2, or all"),
        (2, 0, "has 2"),
    ],
)
def test_a_phase_that_the_answer_lacks_is_refused(phases: int | None, phase: int, said: str) -> None:
    nothing, half = pd.DataFrame(), Mixture.uniform(["domain0", "domain1"])
    plan = PhasePlan([0.5, 1.0], [half] * phases, nothing, 2.0, nothing, nothing) if phases else None
    with pytest.raises(ConfigError, match=f"--phase {phase}: the answer {said}"):
        export_mixture(replace(answer(2), phases=plan), "hydra", phase=phase)


@pytest.mark.parametrize("to", FORMATS)
def test_all_phases_are_one_file_for_this_trainer_and_refused_with_the_way_for_others(to: str) -> None:
    both, nothing = (
        [Mixture.of({"domain0": 0.75, "domain1": 0.25}), Mixture.of({"domain0": 0.0, "domain1": 1.0})],
        pd.DataFrame(),
    )
    recommended = replace(answer(2), phases=PhasePlan([0.8, 1.0], both, nothing, 2.0, nothing, nothing))
    if to != "hydra":
        with pytest.raises(ConfigError, match=f"--phase all: {to} takes one phase at a time") as error:
            export_mixture(recommended, to, phase="all")
        assert FORMATS[to].next_phase in str(error.value)
        return
    made = export_mixture(recommended, to, phase="all", available={"domain0": 1e12})
    phases = yaml.safe_load(str(made))["phases"]
    assert [(phase["until"], phase["weights"]) for phase in phases] == [(0.8, dict(both[0])), (1, dict(both[1]))]
    assert made.blend.domains[0].epochs == pytest.approx(0.8 * 0.75 * 150e9 / 1e12)
    assert "the 2 phases that the additive law recommends" in made.notes
