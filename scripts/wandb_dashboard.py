"""python -m scripts.wandb_dashboard runs/STUDY --entity ENTITY [--project mixlaw]: W&B's views of a study.

    workspace   "mixlaw": all studies of the project, runs grouped by study: losses, realised weights, training
    report      one study: loss per domain, the simplex, predicted and observed losses, h* with its interval

Training fills the first half of the report (logging=wandb) and scripts.wandb_fit the second; names of domains and
targets are read from the study's own runs. Every call creates new views. Needs a W&B login and the optional extra:
pip install -e '.[dashboards]'.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixlaw.errors import ConfigError, MixlawError, RunLogError
from mixlaw.paths import path_option
from mixlaw.runs.load import find_runs
from mixlaw.runs.log import read_facts, read_rows, read_status
from scripts.wandb_fit import must_answer, wandb_errors
from scripts.wandb_tables import OPTIMUM, PHASE_GAINS, PHASES, PREDICTIONS, SCORES, SWITCHES

X = "n_tokens"
HALF = {"w": 12, "h": 8}  # of a report's 24 columns
MOST_RUNS = 100  # lines in a panel


@dataclass(frozen=True)
class Study:
    """The names of a study's domains and targets, and the largest number of phases of its runs."""

    name: str
    domains: list[str]
    targets: list[str]
    phases: int = 1


def read_study(folder: Path) -> Study:
    """Read the names of a study's domains and targets from its first finished run, and the number of phases.

    Raises
    ------
    RunLogError
        If there is none.
    """
    runs = find_runs([folder])
    for run in runs:
        if read_status(run) == "finished":
            targets = dict.fromkeys(row["domain"] for row in read_rows(run) if row["kind"] == "eval")
            phases = max(len(read_facts(each).get("phases", [])) for each in runs)
            return Study(folder.resolve().name, list(read_facts(run)["mixture"]), list(targets), max(phases, 1))
    raise RunLogError(
        f"no run in {folder} is finished: train one first; panels are named after its domains and targets"
    )


def wandb_workspaces() -> tuple[Any, Any]:
    """Return the modules of workspaces and of reports.

    Raises
    ------
    ConfigError
        If the optional extra is not installed.
    """
    try:
        from wandb_workspaces import workspaces
        from wandb_workspaces.reports import v2
    except ImportError as error:
        raise ConfigError(f"dashboards need an optional extra ({error}): pip install -e '.[dashboards]'") from None
    return workspaces, v2


def build_workspace(study: Study, entity: str, project: str) -> Any:
    """Return the workspace: training runs, grouped by study."""
    ws, wr = wandb_workspaces()

    def lines(prefix: str, names: Sequence[str], **more: Any) -> list[Any]:
        return [wr.LinePlot(title=f"{prefix}/{name}", x=X, y=[f"{prefix}/{name}"], **more) for name in names]

    numbers = range(1, study.phases + 1) if study.phases > 1 else ()
    by_phase = [panel for p in numbers for panel in lines(f"weight@{p}", study.domains, range_y=(0.0, 1.0))]
    phases = [ws.Section("weights by phase", [*lines("train", ["phase"]), *by_phase])] if by_phase else []
    return ws.Workspace(
        entity=entity,
        project=project,
        name="mixlaw",
        sections=[
            ws.Section("loss per domain", lines("loss", study.targets, log_x=True, log_y=True), is_open=True),
            ws.Section("realised weights", lines("weight", study.domains, range_y=(0.0, 1.0))),
            *phases,
            ws.Section("epochs", lines("epochs", study.domains)),
            ws.Section("training", lines("train", ["loss", "lr", "grad_norm", "mfu", "tokens_per_s"]), is_open=True),
        ],
        settings=ws.WorkspaceSettings(x_axis=X, max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("JobType") == "train"],
            groupby=[ws.Metric("Group")],
            pinned_columns=[f"summary:loss/{target}" for target in study.targets],
        ),
    )


def build_report(study: Study, entity: str, project: str) -> Any:
    """Return the report: training curves and the results of the fit."""
    _, wr = wandb_workspaces()
    fit = f"`python -m scripts.wandb_fit runs/{study.name}`"
    losses = [
        wr.LinePlot(
            title=target,
            x=X,
            y=[f"loss/{target}"],
            log_x=True,
            log_y=True,
            title_y="loss [nats/token]",
            max_runs_to_show=MOST_RUNS,
            layout=wr.Layout(**HALF),
        )
        for target in study.targets
    ]
    total = ", of the whole run where its mixture changes" if study.phases > 1 else ""
    blocks = [
        wr.H2("Loss per domain"),
        _grid(study, "train", losses),
        wr.H2("The simplex"),
        wr.P(f"A line per run: its realised weights{total}, its parameters, and where its loss ended."),
        _grid(study, "train", [_simplex(study, target) for target in study.targets]),
        wr.H2("Predicted and observed"),
        wr.MarkdownBlock(f"Rows of the fitted and of the held-out runs under the chosen law, from {fit}."),
        _grid(study, "fit", [_predicted(), _table(SCORES)]),
        wr.H2("The optimal mixture"),
        wr.MarkdownBlock("h\\* and its 90 % interval, by domain."),
        _grid(study, "fit", [*[_optimum(domain) for domain in study.domains], _table(OPTIMUM)]),
        *_phase_blocks(study),
    ]
    title = f"{study.name}: which mixture?"
    return wr.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def _phase_blocks(study: Study) -> list[Any]:
    """Return the part of the report on recommended phases; none if no run changes its mixture."""
    _, wr = wandb_workspaces()
    if study.phases < 2:
        return []
    said = "The mixture of each phase, their gain over the best single one, and the loss by where the mixture changes."
    panels = [_table(name) for name in (PHASES, PHASE_GAINS, SWITCHES)]
    return [wr.H2("Phases"), wr.P(said), _grid(study, "fit", panels)]


def _grid(study: Study, job_type: str, panels: list[Any]) -> Any:
    """Return panels over the study's training runs, or over its newest fits; the project is the report's own."""
    ws, wr = wandb_workspaces()
    filters = [ws.Metric("Group") == study.name, ws.Metric("JobType") == job_type]
    return wr.PanelGrid(runsets=[wr.Runset(name=job_type, filters=filters)], panels=panels)


def _simplex(study: Study, target: str) -> Any:
    """Return a target's loss against all weights: a line per run, whatever the number of domains."""
    _, wr = wandb_workspaces()
    column = wr.ParallelCoordinatesPlotColumn
    columns = [column(wr.SummaryMetric(f"weight/{domain}"), display_name=domain) for domain in study.domains]
    columns.append(column(wr.Config("n_params.total"), display_name="parameters", log=True))
    columns.append(column(wr.SummaryMetric(f"loss/{target}"), display_name=f"loss of {target}"))
    return wr.ParallelCoordinatesPlot(columns, title=target, layout=wr.Layout(**HALF))


def _predicted() -> Any:
    _, wr = wandb_workspaces()
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": PREDICTIONS}},
        chart_name="wandb/scatter/v0",
        chart_fields={"x": "observed", "y": "predicted"},
        chart_strings={"title": "predicted against observed loss [nats/token]"},
        layout=wr.Layout(**HALF),
    )


def _optimum(domain: str) -> Any:
    _, wr = wandb_workspaces()
    bars = [wr.SummaryMetric(f"{OPTIMUM}_{key}/{domain}") for key in ("low", "weight", "high")]
    return wr.BarPlot(title=domain, metrics=bars, range_x=(0.0, 1.0), max_runs_to_show=1)


def _table(name: str) -> Any:
    _, wr = wandb_workspaces()
    return wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(**HALF))


def main(argv: Sequence[str] | None = None) -> int:
    """Build and save both views."""
    parser = argparse.ArgumentParser("python -m scripts.wandb_dashboard", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=path_option, help="runs/STUDY")
    parser.add_argument("--entity", required=True, help="the W&B user or team")
    parser.add_argument("--project", default="mixlaw")
    options = parser.parse_args(argv)
    try:
        study = read_study(options.folder)
        views = [build(study, options.entity, options.project) for build in (build_workspace, build_report)]
        otherwise = "try again where it can be reached, dashboards are made nowhere else"
        with wandb_errors(otherwise):
            must_answer(otherwise)  # else `save` may wait for ever
            for view in views:
                print(view.save().url)
    except MixlawError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
