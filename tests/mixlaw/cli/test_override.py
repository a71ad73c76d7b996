"""`mixlaw recommend --override`: what the verdict takes, and the other mixture as a comment."""

from dataclasses import replace

import pandas as pd
import pytest
import yaml

from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.recommendation import Recommendation
from mixlaw.cli.recommend import override_file
from mixlaw.mixture import Mixture
from tests.mixlaw.answers import answer

FIRST, SECOND = Mixture.of({"domain0": 0.75, "domain1": 0.25}), Mixture.of({"domain0": 0.125, "domain1": 0.875})


def with_phases(low: float) -> Recommendation:
    """Return an answer with phases whose gain is at least `low`."""
    gains = pd.DataFrame([{"target": "objective", "gain": 0.1, "low": low, "high": 0.2}])
    nothing = pd.DataFrame()
    return replace(answer(2), phases=PhasePlan([0.8, 1.0], [FIRST, SECOND], nothing, 2.0, gains, nothing))


def commented(text: str) -> dict:
    """Return what the file would hold if the lines after "# Or" were no comments."""
    return yaml.safe_load("\n".join(line.removeprefix("# ") for line in text.partition("# Or ")[2].splitlines()[1:]))


def phases(facts: dict) -> list[tuple[float, dict[str, float]]]:
    return [(phase["until"], phase["weights"]) for phase in facts["phases"]]


@pytest.mark.parametrize("low", [0.01, -0.01])
def test_the_file_holds_what_the_verdict_takes_and_the_other_as_a_comment(low: float) -> None:
    text, single = override_file(with_phases(low)), pytest.approx(dict(answer(2).weights), abs=1e-4)
    taken, other = yaml.safe_load(text), commented(text)
    changing, fixed = (taken, other) if low > 0 else (other, taken)
    assert phases(changing) == [(0.8, dict(FIRST)), (1, dict(SECOND))]
    assert "weights" not in changing
    assert fixed["weights"] == single
    assert "phases" not in fixed


def test_an_answer_without_phases_has_no_comment_on_them() -> None:
    assert "# Or" not in override_file(answer(2))
