"""python -m train [OVERRIDE...]         train one run, or resume it
python -m train study=NAME           train all runs of a study, several at a time
python -m train study=NAME hydra/launcher=slurm      submit all runs of a study to Slurm
python -m train ... --dry-run        print what would run

Hydra overrides: model=text_136k mixture=uniform schedule.n_tokens=1000000 'mixture.weights={code:0.7,docs:0.3}'
Exit codes: 0 finished; 75 stopped by a signal and saved, run the same command again; 76 diverged; the others follow an
error message (`train/exits.py`).
"""

import argparse
import logging
import os
import sys
from pathlib import Path

os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach main(), which prints one-line messages
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import data
from data.chosen_files import check_chosen_files
from data.config_folders import CONFIGS, ROOT, config_folders
from data.yaml_files import check_yaml_files
from mixlaw.console import command, say
from mixlaw.errors import ConfigError
from mixlaw.paths import expand_path, path_option
from mixlaw.runs.log import read_status
from train.compose import addable, plan_run, read_config
from train.console import RunBar
from train.distributed import adopt_slurm
from train.exits import EXIT_CODES, STATUS_SENTENCES, run_command
from train.loop import run
from train.plan import Plan


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def one_run(cfg: DictConfig) -> None:
    """Train the run of a composed configuration."""
    code = run_command(lambda: _train_one(cfg))  # inside Hydra, which would add a line to every error
    if code:
        raise SystemExit(code)


def _train_one(cfg: DictConfig) -> int:
    plan = plan_run(read_config(cfg))
    if HydraConfig.get().launcher.get("dry_run", False):
        from train.dry_run import describe_plan

        say(describe_plan(plan, list(HydraConfig.get().overrides.task)))
        return 0
    adopt_slurm(os.environ)
    if os.environ.get("RANK", "0") != "0":  # only the first rank prints
        return EXIT_CODES[run(plan)]
    was_over = read_status(plan.folder) in ("finished", "diverged")
    with RunBar(plan) as bar:
        status = run(plan, bar.update)
    sys.stdout.write(f"{plan.config.machine.runs}/{plan.folder_name} {STATUS_SENTENCES[status]}\n")
    if was_over and plan.config.logging.wandb:
        _send_late(plan)
    return EXIT_CODES[status]


def _send_late(plan: Plan) -> None:
    """Send the log of a run to W&B if it ended before W&B was enabled."""
    from train.late_mirror import send_late

    project = plan.config.logging.project
    done, _ = send_late([(plan.folder, project)])
    if done:
        sys.stdout.write(f"{plan.folder}: its log was sent to W&B, project {project}, from the first row it lacked\n")


def _command_line() -> int:
    if ROOT not in [*map(type(ROOT), data.__path__), *(type(ROOT)(p).parent for p in data.__path__)]:
        raise ConfigError(f"`import data` finds {data.__path__[0]}, not this checkout: run from {ROOT}")
    folders = [*config_folders(), *added_folders(sys.argv[1:])]
    check_yaml_files(folders)
    check_chosen_files(folders, "train", sys.argv[1:])
    if any("submitit" in argument for argument in sys.argv[1:]):  # its jobs unpickle our sweeper, so they import it
        paths = [str(ROOT), str(ROOT / "sweeps"), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    arguments = ["hydra.launcher.dry_run=true" if a == "--dry-run" else a for a in sys.argv[1:]]
    arguments.sort(key=lambda a: a not in ("-m", "--multirun"))  # argparse needs overrides in one contiguous group
    sys.argv[1:] = [addable(with_home(argument)) for argument in arguments]
    one_run()
    return 0


def with_home(argument: str) -> str:
    """Expand ~ in --config-dir=~/x and --config-path=~/x, which shells do not."""
    option, equals, folder = argument.partition("=")
    known = ("--config-dir", "-cd", "--config-path", "-cp")
    return f"{option}={expand_path(folder, option)}" if equals and option in known else argument


def added_folders(arguments: list[str]) -> list[Path]:
    """Return the configuration folders of --config-dir and --config-path."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=True)
    parser.add_argument("--config-dir", "-cd", type=path_option)
    parser.add_argument("--config-path", "-cp", type=path_option)
    known, _ = parser.parse_known_args(arguments)
    return [path for path in (known.config_dir, known.config_path) if path and path.is_dir()]


@command
def main() -> int:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    return run_command(_command_line)


if __name__ == "__main__":
    sys.exit(main())
