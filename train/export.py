"""python -m train.export RUN_DIRECTORY --out FOLDER [--law laws.json] [--unfinished]: a run in Hugging Face format.

Writes config.json, model.safetensors, the tokenizer and a model card with the mixture, the losses and, where laws are
given, what they predicted. Without QK-norm a model of text is a `LlamaForCausalLM`; with it, the same architecture has
the name `Qwen3ForCausalLM` there. Models of images have no class there: they are a `train.hf.MixlawModel`.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from safetensors import SafetensorError
from torch import nn
from torch.distributed.checkpoint import CheckpointException

from data.config import to_dataclass
from data.store.tokens import open_manifest
from data.tokenizers import BpeTokenizer, Tokenizer, load_tokenizer
from mixlaw.console import command, exit_code_of
from mixlaw.errors import CheckpointError, DataError, RunLogError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.paths import path_option
from mixlaw.runs.log import read_facts, read_status
from train.checkpoint import newest_checkpoint, read_part
from train.config import TrainConfig
from train.llama import renamed, settings
from train.models.build import build_model

TASKS = {"text": "text-generation", "multimodal": "image-text-to-text", "vision": "image-feature-extraction"}


@dataclass(frozen=True)
class Trained:
    """The content of a run directory, with the weights of the newest checkpoint."""

    folder: Path
    facts: dict[str, Any]
    config: TrainConfig
    status: str
    step: int
    model: nn.Module
    rows: list[dict[str, Any]]

    @property
    def n_tokens(self) -> int:
        logged = [row["n_tokens"] for row in self.rows if row["step"] == self.step]
        return int(logged[0]) if logged else self.step * int(self.facts["tokens_per_step"])

    @property
    def n_steps(self) -> int:
        known = self.facts.get("n_steps")
        return int(known or -(-self.config.schedule.n_tokens // int(self.facts["tokens_per_step"])))

    @property
    def losses(self) -> dict[str, dict[str, Any]]:
        """The last evaluation of each domain and target."""
        return {row["domain"]: row for row in self.rows if row["kind"] == "eval"}

    @property
    def realised(self) -> dict[str, float]:
        """Realised share of the tokens of each domain."""
        spent = next(row["tokens_by_domain"] for row in reversed(self.rows) if row["kind"] == "train")
        return {domain: n / max(sum(spent.values()), 1) for domain, n in spent.items()}


def read_run(folder: Path, unfinished: bool = False) -> Trained:
    """Read a run and its newest checkpoint; with evaluation.average, the averaged weights.

    Raises
    ------
    RunLogError, CheckpointError
        If it is not over, diverged, or has no checkpoint.
    """
    facts, status = read_facts(folder), read_status(folder)
    if status == "unfinished" and not unfinished:
        raise RunLogError(f"{folder} is unfinished: the same command goes on with it, or export it with --unfinished")
    if status not in ("finished", "unfinished"):
        raise RunLogError(f"{folder} is not exported: its status is '{status}'")
    facts["config"]["data"].setdefault("split_targets", True)  # runs of before there was a choice
    config = to_dataclass(TrainConfig, OmegaConf.create(facts["config"]))
    path = newest_checkpoint(folder / "checkpoints")
    if path is None:
        raise CheckpointError(f"{folder} has no checkpoint that is whole: run its command again")
    tokenizer = facts["tokenizer"]
    model = build_model(config.model, tokenizer["vocab_size"], config.layout(), 0, tokenizer["end_id"])
    try:
        read_part(path, "average" if config.evaluation.average else "model", model.state_dict())
    except (LookupError, ValueError, OSError, RuntimeError, SafetensorError, CheckpointException) as error:
        raise CheckpointError(f"{path} does not hold this run's weights: {error}") from None
    step = int(path.name.removeprefix("step-"))
    lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    rows = [row for row in map(json.loads, lines) if row["step"] <= step]
    if not any(row["kind"] == "train" for row in rows):
        raise RunLogError(f"{folder} has logged nothing before its newest checkpoint (step {step}): let it continue")
    return Trained(folder, facts, config, status=status, step=step, model=model, rows=rows)


def to_transformers(run: Trained) -> Any:
    """Return the model as a transformers model in evaluation mode: Llama or Qwen3 for text, else our own class."""
    if run.config.model.family != "text":
        from train.hf import to_own_model

        return to_own_model(
            run.model, run.config.model, run.facts["tokenizer"]["vocab_size"], run.config.stream.seq_len
        )
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    model, end_id = run.config.model, run.facts["tokenizer"]["end_id"]
    classes = (Qwen3Config, Qwen3ForCausalLM) if model.qk_norm else (LlamaConfig, LlamaForCausalLM)
    config = classes[0](
        **settings(model, run.facts["tokenizer"]["vocab_size"]),
        max_position_embeddings=run.config.stream.seq_len,
        tie_word_embeddings=False,
        eos_token_id=end_id,
        bos_token_id=None,
        dtype="float32",
    )
    theirs = classes[1](config)
    theirs.load_state_dict(renamed(run.model.state_dict()))
    return theirs.eval()


def predictions(run: Trained, laws: FittedLaws) -> pd.DataFrame:
    """Return the prediction of the chosen law for this run: target, predicted, low, high [nats/token]."""
    frame = pd.DataFrame({"n_params": [run.facts["n_params"]["total"]], "n_tokens": [run.n_tokens]})
    return laws.best.predict(frame.assign(**{f"weight_{d}": share for d, share in run.realised.items()}))


def card(run: Trained, class_name: str, laws: FittedLaws | None, added: Sequence[str] = ()) -> str:
    """Return the model card: YAML metadata for the hub, then text and tables.

    Parameters
    ----------
    added : the special tokens that the tokenizer's source adds to every text
    """
    facts, counts = run.facts, run.facts["n_params"]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {TASKS[run.config.model.family]}",
        "tags: [mixlaw, data-mixture]",
        "---",
        "",
        f"# {facts['run_name']}",
        "",
        f"A `{class_name}` of {counts['total']:,} parameters, trained on {run.n_tokens:,} tokens (step {run.step:,} of "
        f"{run.n_steps:,}, status {run.status}) by mixlaw {facts.get('mixlaw_version', '?')}, run "
        f"`{facts['run_id']}` of the study `{facts['study']}`, seed {run.config.seed}.",
    ]
    if run.config.evaluation.average:
        lines.append("The weights are the average over the last part of the training, which is what was evaluated.")
    if run.config.model.document_mask:
        lines.append("It was trained with attention within documents only: give it one document at a time.")
    if run.config.model.family != "text":
        lines.append("In a checkout of mixlaw, `train.hf.MixlawModel.from_pretrained` loads it.")
    elif run.config.model.qk_norm:
        lines.append("It is a Llama with RMSNorm on queries and keys, which transformers calls Qwen3.")
    lines += ["", "| parameters | |", "|---|---|", *(f"| {kind} | {n:,} |" for kind, n in counts.items())]
    lines += ["", *mixture_table(run), "", *loss_table(run, laws), "", tokenizer_note(facts["tokenizer"], added), ""]
    return "\n".join(lines)


def mixture_table(run: Trained) -> list[str]:
    """Return a table of the training mixture, with licences and sha256."""
    known, realised = licences(run), run.realised
    lines = ["| domain | requested weight | realised | tokens available | licence of the texts | sha256 |"]
    lines += ["|---|---|---|---|---|---|"]
    for domain, weight in run.facts["mixture"].items():
        pool, licence = run.facts["data"][domain], known.get(domain, "not stated")
        shares = f"{weight:.4f} | {realised.get(domain, 0.0):.4f}"
        lines.append(f"| {domain} | {shares} | {pool['n_tokens']:,} | {licence} | `{pool['sha256']}` |")
    return lines


def licences(run: Trained) -> dict[str, str]:
    """Return the licences of those domains whose prepared data, with the same sha256, are on this machine."""
    try:
        manifest = open_manifest(run.config.data.folder)
    except DataError:
        return {}
    here = [d for d in run.facts["data"] if d in manifest.facts["domains"]]
    same = [d for d in here if manifest.domain_sha256(d) == run.facts["data"][d]["sha256"]]
    return {d: manifest.entry(d)["licence"] for d in same if manifest.entry(d).get("licence")}


def loss_table(run: Trained, laws: FittedLaws | None) -> list[str]:
    """Return a table of the last evaluation, with the prediction of the chosen law if there is one."""
    measured = {name: f"{row['loss']:.4f} ± {row['loss_se']:.4f}" for name, row in run.losses.items()}
    units = {name: f" [{unit}]" for name, unit in run.facts.get("units", {}).items()}
    if laws is None:
        head = ["| held-out loss [nats/token] | measured |", "|---|---|"]
        return head + [f"| {name}{units.get(name, '')} | {loss} |" for name, loss in measured.items()]
    rows = predictions(run, laws).set_index("target")
    lines = [f"The law `{laws.best.name}` ({laws.reason}) predicts for this N, D and mixture:", ""]
    lines += ["| held-out loss [nats/token] | measured | predicted (90 %) |", "|---|---|---|"]
    for name in [*measured, *(t for t in rows.index if t not in measured)]:
        told = "{predicted:.4f} ({low:.4f} to {high:.4f})".format(**rows.loc[name]) if name in rows.index else ""
        lines.append(f"| {name}{units.get(name, '')} | {measured.get(name, '')} | {told} |")
    return [*lines, "", *law_table(laws)]


def law_table(laws: FittedLaws) -> list[str]:
    """Return the formula of the chosen law, and its parameters by target."""
    fit = laws.best
    law, units, values = fit.law, fit.units, fit.params
    told = f"`L = {' '.join(law.formula.split())}` ({law.source})"
    lines = [f"{told}, N in {units.n_params:,.4g} parameters, D in {units.n_tokens:,.4g} tokens:", ""]
    lines += [f"| | {' | '.join(map(str, values.columns))} |", "|---" * (1 + len(values.columns)) + "|"]
    return lines + [f"| {target} | {' | '.join(f'{v:.4g}' for v in row)} |" for target, row in values.iterrows()]


def tokenizer_note(facts: Mapping[str, Any], added: Sequence[str] = ()) -> str:
    """Return the paragraph of the model card on the tokenizer, its use in training, and licences of the texts."""
    told = (
        f"Tokenizer: {facts['kind']}, {facts['vocab_size']:,} symbols, sha256 `{facts['sha256']}`. Losses are in nats "
        "per token of it. The texts keep their licences, which may bind the weights as well."
    )
    end = f"In training the token {facts['end_id']} followed every document, and"
    if facts["kind"] == "given":
        missing = "Its data were tokenised elsewhere: put that tokenizer beside it, and encode as those data were."
        return f"{missing} {told} {end} nothing else was added to the files' documents."
    original = f" The original adds {', '.join(f'`{token}`' for token in added)} by default." if added else ""
    return f"{told} {end} no special token was added; the tokenizer here encodes texts in the same way.{original}"


def find_tokenizer(run: Trained) -> Tokenizer:
    """Return the tokenizer of the run's prepared data.

    Raises
    ------
    DataError
        If the prepared folder is not on this machine.
    """
    try:
        return load_tokenizer(run.config.data.folder, run.facts["tokenizer"])
    except DataError as error:
        raise DataError(f"{error} (a run is exported where its prepared data lie)") from None


def export(folder: Path, out: Path, law: Path | None = None, unfinished: bool = False) -> Path:
    """Write a run in Hugging Face format; return the folder.

    Raises
    ------
    MixlawError
        If the run, its tokenizer or the laws cannot be used, or if `out` holds something already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunLogError(f"{out} is there already: choose another --out, or remove it")
    run, laws = read_run(folder, unfinished), FittedLaws.load(law) if law else None
    ours = None if run.facts["tokenizer"]["kind"] == "given" else find_tokenizer(run)
    tokenizer = ours.to_transformers() if ours else None
    model = to_transformers(run)
    added = ours.added_by_default() if isinstance(ours, BpeTokenizer) else []
    text = card(run, type(model).__name__, laws, added)
    try:
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out)
        if tokenizer:
            tokenizer.save_pretrained(out)
        (out / "README.md").write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise RunLogError(f"{out} cannot be written ({error}): choose another --out, or free some space") from None
    return out


@command
def main(argv: list[str] | None = None) -> int:
    """Run `python -m train.export`; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=path_option, metavar="RUN_DIRECTORY")
    parser.add_argument("--out", type=path_option, required=True, help="folder to write, absent or empty")
    parser.add_argument("--law", type=path_option, help="laws.json of `mixlaw fit`: its prediction goes into the card")
    parser.add_argument("--unfinished", action="store_true", help="export the newest checkpoint of an unfinished run")
    return exit_code_of(lambda: _export(parser.parse_args(argv)))


def _export(options: argparse.Namespace) -> int:
    export(options.run, options.out, options.law, options.unfinished)
    sys.stdout.write(f"{options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
