"""python -m scripts.demo [--short]: real text -> a sweep of small models -> laws -> mixture -> proof -> report.

Every stage is an ordinary command of the project, printed before it runs: copy any of them. Stages that are done are
skipped, stages that were cut off are resumed, so the same command always goes on from where it was. --short trains
fewer and shorter runs over the same road.
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

from mixlaw.mixture import hydra_override

ROOT = Path(__file__).resolve().parent.parent
TARGET = "reviews"


@dataclass
class Road:
    """One demo: its studies, and what is asked of the laws."""

    study: str  # fitted; its larger size is STUDY_heldout, its proof STUDY_proof
    extra: list[str]  # further studies whose runs land in the same folder
    laws: str
    n_tokens: int  # D of the recommendation and of the proof: a whole number of steps
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return ROOT / "runs" / self.study


FULL = Road("quickstart", ["quickstart_seeds"], "base,additive,joint,multiplicative", 540_672)
SHORT = Road("short", [], "base,additive,multiplicative", 81_920)


def main() -> int:
    """Run all stages; return the exit code of the first that fails."""
    parser = argparse.ArgumentParser(
        "python -m scripts.demo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--short", action="store_true", help="fewer and shorter runs, for a quick check of the whole road"
    )
    road = SHORT if parser.parse_args().short else FULL
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.monotonic()
    try:
        walk(road)
    except subprocess.CalledProcessError as error:
        print(f"\nstopped: exit code {error.returncode}. The same command goes on from here.", flush=True)
        return error.returncode if error.returncode > 0 else 1
    except KeyboardInterrupt:
        print("\ninterrupted. The same command goes on from here.", flush=True)
        return 130
    summarise(road, time.monotonic() - started)
    return 0


def walk(road: Road) -> None:
    """Take every stage in order."""
    folder, held = road.folder, f"runs/{road.study}_heldout"
    laws, answer, report = folder / "laws.json", folder / "recommendation.json", folder / "report.html"
    train, mixlaw = [sys.executable, "-m", "train"], [sys.executable, "-m", "mixlaw.cli"]
    stage(road, "domains", [sys.executable, "-m", "data.prepare"])
    for study in (road.study, *road.extra, f"{road.study}_heldout"):
        stage(road, study, [*train, f"study={study}"])
    fit = [
        *mixlaw,
        "fit",
        f"runs/{road.study}",
        "--law",
        road.laws,
        "--test",
        held,
        "--out",
        str(laws.relative_to(ROOT)),
    ]
    stage(road, "laws", fit, laws, seals(folder, ROOT / held))
    n_params = max(json.loads(p.read_text())["n_params"]["total"] for p in (ROOT / held).glob("*/run.json"))
    asked = ["--n-params", str(n_params), "--n-tokens", str(road.n_tokens), "--target", TARGET]
    ask = [*mixlaw, "recommend", str(laws.relative_to(ROOT)), *asked, "--out", str(answer.relative_to(ROOT))]
    stage(road, "recommendation", ask, answer, [laws])
    stage(road, "proof", [*train, f"study={road.study}_proof", proof_mixtures(answer)])
    drawn = ["--test", held, "--laws", str(laws.relative_to(ROOT)), "--recommendation", str(answer.relative_to(ROOT))]
    drawn += ["--proof", f"runs/{road.study}_proof", "--out", str(report.relative_to(ROOT))]
    inputs = [laws, answer, *seals(ROOT / f"runs/{road.study}_proof")]
    stage(road, "report", [*mixlaw, "report", f"runs/{road.study}", *drawn], report, inputs)


def stage(road: Road, name: str, command: list[str], output: Path | None = None, inputs: Iterable[Path] = ()) -> None:
    """Run one command with its time, unless its output is newer than all it depends on."""
    shown = shlex.join(["python" if part == sys.executable else part for part in command]).replace(
        "python -m mixlaw.cli", "mixlaw"
    )
    print(f"\n[{name}] {shown}", flush=True)
    started = time.monotonic()
    if output and output.exists() and all(p.stat().st_mtime <= output.stat().st_mtime for p in [*inputs, *code()]):
        print(f"{output.relative_to(ROOT)} is up to date", flush=True)
    else:
        run(command)
    road.stages[name] = time.monotonic() - started


def run(command: list[str]) -> None:
    """Run a command to its end; on Ctrl-C let it save what it has."""
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def seals(*folders: Path) -> list[Path]:
    """Return the seals of all runs in some folders: what a fit depends on."""
    return [path for folder in folders for path in sorted(folder.glob("*/done.json"))]


def code() -> list[Path]:
    """Return the fitter's own files: results are made again when they change."""
    return sorted((ROOT / "mixlaw").glob("*.py"))


def proof_mixtures(answer: Path) -> str:
    """Return the sweep over the recommended, the uniform and the natural mixture, as Hydra takes it."""
    outcomes = json.loads(answer.read_text())["outcomes"]
    key, _, first = hydra_override(outcomes[0]["weights"]).partition("=")
    others = [hydra_override(o["weights"]).partition("=")[2] for o in outcomes[1:]]
    return f"{key}={','.join([first, *others])}"


def summarise(road: Road, total: float) -> None:
    """Print what came out and how long each stage took."""
    from mixlaw.report import proof_table, prove, verdict
    from mixlaw.tables import read_table

    answer = json.loads((road.folder / "recommendation.json").read_text())
    rows = prove(answer, read_table([ROOT / f"runs/{road.study}_proof"]))
    print(f"\n{proof_table(rows).to_string(index=False, float_format=lambda v: f'{v:.4f}')}\n\n{verdict(rows)}\n")
    for name, seconds in road.stages.items():
        print(f"{name:<22}{seconds:>8.1f} s")
    print(f"{'in all':<22}{total:>8.1f} s\n\nreport: {road.folder.relative_to(ROOT)}/report.html")


if __name__ == "__main__":
    sys.exit(main())
