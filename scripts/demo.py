"""python -m scripts.demo [ROAD]: real data -> small models -> laws -> mixture -> sealed forecast -> proof -> report.

    quickstart         text: code, docs, dict and dialogue; the target is film reviews
    multimodal         early fusion: text, captioned images, interleaved documents; the target is other captions
    vision             images and captions of four kinds; the target is a fifth kind
    short, multimodal_short, vision_short    the same pipelines with fewer or shorter runs

Every stage is an ordinary command of the project, printed before it runs: copy any of them. Finished stages are skipped
and interrupted stages are resumed, so repeating the command continues the demo.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mixlaw.fileio import file_sha256
from mixlaw.mixture import Mixture

LEDGER = "forecasts.jsonl"  # of scored forecasts, beside them
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Road:
    """One demo: its studies, and the big run to recommend a mixture for."""

    study: str  # fitted; its larger size is STUDY_heldout, its proof STUDY_proof
    data: str
    target: str
    laws: str
    n_tokens: int  # D of the recommendation and of the proof
    extra: list[str] = field(default_factory=list)  # further studies with runs in the same folder
    short: int = 0  # tokens per run of the short form, which has its own folders; 0: the full studies
    shows: bool = False  # whether the report shows images
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder of the fitted runs, below runs/."""
        return self.study + "_short" * bool(self.short)

    @property
    def folder(self) -> Path:
        return ROOT / "runs" / self.name

    def train(self, part: str = "") -> list[str]:
        """Return the command that trains a part of the demo: "", "_heldout" or "_proof"."""
        command = [sys.executable, "-m", "train", f"study={self.study}{part}"]
        if not self.short:
            return command
        n_tokens = self.n_tokens if part == "_proof" else self.short
        shorter = [f"schedule.n_tokens={n_tokens}", "evaluation.n_sequences=32"]
        return [*command, f"study_name={self.name}{part}", *shorter]


ALL = "base,additive,joint,multiplicative"
ROADS = {
    "quickstart": Road("quickstart", "quickstart", "reviews", ALL, 540_672, ["quickstart_seeds"]),
    "short": Road("short", "quickstart", "reviews", "base,additive,multiplicative", 81_920),
    "multimodal": Road("multimodal", "multimodal", "icons", ALL, 1_200_000, ["multimodal_seeds"], shows=True),
    "multimodal_short": Road("multimodal", "multimodal", "icons", ALL, 150_000, short=100_000, shows=True),
    "vision": Road("vision", "vision", "icons", ALL, 900_000, ["vision_seeds"], shows=True),
    "vision_short": Road("vision", "vision", "icons", ALL, 150_000, short=100_000, shows=True),
}


def main() -> int:
    """Run all stages; return the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        "python -m scripts.demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("road", nargs="?", choices=list(ROADS), default="quickstart", metavar="ROAD")
    road = ROADS[parser.parse_args().road]
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    try:
        run_stages(road)
    except subprocess.CalledProcessError as error:
        print(f"\nstopped: exit code {error.returncode}. Repeat the command to continue.", flush=True)
        return error.returncode if error.returncode > 0 else 1
    except KeyboardInterrupt:
        print("\ninterrupted. Repeat the command to continue.", flush=True)
        return 130
    summarise(road, time.monotonic() - started)
    return 0


def run_stages(road: Road) -> None:
    """Run every stage in order."""
    runs, held, proof = (f"runs/{road.name}{part}" for part in ("", "_heldout", "_proof"))
    laws, answer, report, pictures = (
        road.folder / name for name in ("laws.json", "recommendation.json", "report.html", "predictions.png")
    )
    mixlaw = [sys.executable, "-m", "mixlaw"]
    stage(road, "domains", [sys.executable, "-m", "data.prepare", f"data={road.data}"])
    stage(road, road.name, road.train())
    for study in road.extra:
        stage(road, study, [sys.executable, "-m", "train", f"study={study}"])
    stage(road, f"{road.name}_heldout", road.train("_heldout"))
    fit = [*mixlaw, "fit", runs, "--law", road.laws, "--test", held, "--out", shown(laws)]
    stage(road, "laws", fit, laws, seals(road.folder, ROOT / held))
    n_params = max(json.loads(p.read_text())["n_params"]["total"] for p in (ROOT / held).glob("*/run.json"))
    asked = ["--n-params", str(n_params), "--n-tokens", str(road.n_tokens), "--target", road.target]
    stage(road, "recommendation", [*mixlaw, "recommend", shown(laws), *asked, "--out", shown(answer)], answer, [laws])
    forecast = sealed_path(answer)
    if not forecast.exists():  # a seal is kept whatever is recomputed later
        stage(road, "forecast", [*mixlaw, "forecast", "seal", *map(shown, (laws, answer)), "--out", shown(forecast)])
    stage(road, "proof", [*road.train("_proof"), proof_mixtures(answer)])
    stage(road, "score", [*mixlaw, "forecast", "score", shown(forecast), proof])
    drawn = ["--test", held, "--laws", shown(laws), "--recommendation", shown(answer), "--proof", proof]
    inputs = [laws, answer, forecast.with_name(LEDGER), *seals(ROOT / proof)]
    if road.shows:
        run = recommended_run(answer, ROOT / proof)
        show = [sys.executable, "-m", "train.show", shown(run), "--out", shown(pictures)]
        stage(road, "predictions", show, pictures, seals(ROOT / proof))
        drawn, inputs = [*drawn, "--picture", shown(pictures)], [*inputs, pictures]
    stage(road, "report", [*mixlaw, "report", runs, *drawn, "--out", shown(report)], report, inputs)


def sealed_path(answer: Path) -> Path:
    """Return the file of the forecast of an answer: another answer has another forecast."""
    return answer.with_name(f"forecast-{file_sha256(answer)[:8]}.json")


def shown(path: Path) -> str:
    """Return a path relative to the checkout."""
    return str(path.relative_to(ROOT))


def recommended_run(answer: Path, proof: Path) -> Path:
    """Return the run of the proof that was trained on the recommended mixture."""
    wanted = Mixture.of(json.loads(answer.read_text())["outcomes"][0]["weights"])

    def distance(path: Path) -> float:
        return wanted.distance(json.loads(path.read_text())["mixture"])

    return min(proof.glob("*/run.json"), key=distance).parent


def stage(road: Road, name: str, command: list[str], output: Path | None = None, inputs: Iterable[Path] = ()) -> None:
    """Run one command and record its time, unless its output is newer than its dependencies."""
    words = shlex.join(["python" if part == sys.executable else part for part in command])
    print(f"\n[{name}] {words.replace('python -m mixlaw', 'mixlaw')}", flush=True)
    started = time.monotonic()
    if output and output.exists() and all(p.stat().st_mtime <= output.stat().st_mtime for p in [*inputs, *code()]):
        print(f"{shown(output)} is up to date", flush=True)
    else:
        call(command)
    road.stages[name] = time.monotonic() - started


def call(command: list[str]) -> None:
    """Run a command; on Ctrl-C, wait until it has saved its state."""
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def seals(*folders: Path) -> list[Path]:
    """Return the seals of all runs in some folders, the dependencies of a fit."""
    return [path for folder in folders for path in sorted(folder.glob("*/done.json"))]


def code() -> list[Path]:
    """Return the fitter's source files: results are recomputed when they change."""
    return sorted((ROOT / "mixlaw").rglob("*.py"))


def proof_mixtures(answer: Path) -> str:
    """Return the sweep over the recommended, the uniform and the natural mixture, as Hydra takes it."""
    outcomes = json.loads(answer.read_text())["outcomes"]
    overrides = [Mixture.of(outcome["weights"]).hydra_override().partition("=") for outcome in outcomes]
    return f"{overrides[0][0]}={','.join(mixture for _, _, mixture in overrides)}"


def summarise(road: Road, total: float) -> None:
    """Print the results and the time of each stage."""
    from mixlaw.advice.recommendation import Recommendation
    from mixlaw.fitting.saved import FittedLaws
    from mixlaw.forecast.ledger import Ledger
    from mixlaw.forecast.sealed import Forecast
    from mixlaw.forecast.words import verdict as verdict_of_forecast
    from mixlaw.report.proof import proof_table, prove, verdict
    from mixlaw.report.proof_worth import measured_factors, worth_sentences
    from mixlaw.tables.read import read_table
    from mixlaw.text import text_table

    answer = Recommendation.load(road.folder / "recommendation.json")
    proof, laws = read_table([ROOT / f"runs/{road.name}_proof"]), FittedLaws.load(road.folder / "laws.json")
    rows = prove(answer, proof)
    said = " ".join([verdict(rows), *worth_sentences(answer, measured_factors(rows, laws, answer, proof))])
    seal = Forecast.load(sealed_path(road.folder / "recommendation.json")).seal
    scores = {score.seal: score for score in Ledger.load(road.folder / LEDGER).scores}
    print(f"\n{text_table(proof_table(rows))}\n\n{said}\n{verdict_of_forecast(scores[seal])}\n")
    for name, seconds in road.stages.items():
        print(f"{name:<22}{seconds:>8.1f} s")
    print(f"{'total':<22}{total:>8.1f} s\n\nreport: {shown(road.folder)}/report.html")


if __name__ == "__main__":
    sys.exit(main())
