"""`python -m train ... --dry-run` of one run: size, mixture, cost, state and memory."""

from collections.abc import Sequence
from pathlib import Path

from mixlaw.runs.study_status import run_states
from mixlaw.runs.study_table import summary_line, table_lines
from train.branch import taken_from, trunks_in
from train.evaluate import evaluation_costs
from train.gpus import gpus_for
from train.memory import memory_lines
from train.models.build import count_of
from train.plan import Plan, planned_run


def describe_plan(plan: Plan, overrides: Sequence[str]) -> str:
    """Return size, mixture, cost and state of a planned run, and its memory if it uses a GPU."""
    config, folder = plan.config, plan.folder.parent
    n_params = count_of(config.model, plan.manifest.vocab_size, config.layout())["total"]
    trunk = config.checkpoint.branch_from
    n_taken, _ = taken_from(plan, trunks_in(Path(trunk))) if trunk else (0, "")
    states = run_states(folder, planned=[planned_run(plan, n_params, overrides, n_taken)])
    n_gpus = 1 if gpus_for([config.machine.device]) else 0
    memory = memory_lines([(config, overrides)], plan.manifest.vocab_size, n_gpus)
    return "\n".join([summary_line(folder, states), *table_lines(states), evaluation_line(plan), *memory])


def evaluation_line(plan: Plan) -> str:
    """Return the tokens of a run's evaluations and their share of its training: 2 N FLOPs a token against 6 N."""
    costs = evaluation_costs(plan.config, plan.manifest, len(plan.evaluation_steps()))
    share = costs["n_tokens"] / (3 * plan.n_tokens)
    line = f"evaluation: {costs['n_evaluations']} x {costs['n_tokens'] // costs['n_evaluations']:,} tokens"
    line += f", {100 * share:.0f} % of the training FLOPs"
    cut = sum(task["n_contexts_cut"] for task in costs.get("tasks", {}).values())
    n = sum(task["n_sequences"] for task in costs.get("tasks", {}).values())
    return line + (f"; contexts of {cut:,} of {n:,} task sequences are cut from the left" if cut else "")
