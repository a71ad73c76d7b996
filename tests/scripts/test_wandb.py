"""A fit on W&B, read back from the files that W&B wrote; and dashboards, whose panels name what is really logged."""

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.recommend import recommend
from mixlaw.cli.main import main as mixlaw
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.read import read_table
from scripts.wandb_dashboard import build_report, build_workspace, read_study
from scripts.wandb_fit import answers, read_fit
from scripts.wandb_tables import answer_facts, answer_tables, numbers_of, prediction_table
from tests.commands import call
from tests.mixlaw.run_logs import eval_row, train_row, write_run
from tests.mixlaw.synthetic import TRUTHS, fitted, phase_study
from tests.scripts.wandb_files import Record, history, inspect, of_type, private, server_that_says, summary
from train.compose import ROOT
from train.loop import run as train
from train.mirror import Speed, as_metrics
from train.plan import Plan

LOGS = {"run.json", "metrics.jsonl", "done.json"}
needs_workspaces = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None,
    reason="wandb-workspaces is not installed: pip install -e '.[dashboards]'",
)


def write_study(root: Path) -> Path:
    """Write twelve runs of three sizes and four mixtures, whose losses fall with N, D and the share of code."""
    for i, n_params in enumerate((1_000_000, 4_000_000, 16_000_000)):
        for j, share in enumerate((0.2, 0.4, 0.6, 0.8)):
            rows = []
            for step in (100, 200, 400, 800):
                spent = {"code": round(100 * step * share), "web": round(100 * step * (1 - share))}
                rows.append(train_row(step, tokens_by_domain=spent))
                for target, worth in (("code", 1.0), ("web", -0.6), ("held", 0.4)):
                    loss = 1.5 + 20 / n_params**0.3 + 9 / (100 * step) ** 0.25 + 0.3 * (1 - worth * share) ** 2
                    rows.append(eval_row(step, target, loss))
            counts = {"total": n_params, "non_embedding": n_params}
            write_run(root, f"{i}{j}", rows, n_params=counts, mixture={"code": share, "web": 1 - share})
    return root / "s"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fitted study with a recommendation."""
    folder = write_study(tmp_path_factory.mktemp("runs"))
    laws, answer = str(folder / "laws.json"), str(folder / "recommendation.json")
    settings = ["--law", "base,additive", "--n-bootstrap", "10", "--n-starts", "2"]
    assert mixlaw(["fit", str(folder), "--out", laws, *settings]) == 0
    asked = ["--n-params", "64e6", "--n-tokens", "160000", "--target", "held"]
    assert mixlaw(["recommend", laws, *asked, "--out", answer]) == 0
    return folder


@pytest.fixture(scope="module")
def logged(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Log the fit and its report offline, with itself as the held-out runs; return the folder of its page."""
    assert mixlaw(["report", str(study)]) == 0
    environment = private(tmp_path_factory.mktemp("home"))
    code, out, err = call("-m", "scripts.wandb_fit", str(study), "--test", str(study), **environment)
    assert (code, err) == (0, "")
    assert out.startswith("fit-s: ")
    [page] = (study / "wandb").glob("offline-run-*")
    return page


@pytest.fixture(scope="module")
def records(logged: Path) -> list[tuple[str, Record]]:
    return inspect(logged)


@pytest.fixture(scope="module")
def artifacts(records: list[tuple[str, Record]]) -> dict[str, Record]:
    return {record["name"]: record for record in of_type(records, "artifact")}


def files_of(artifact: Record) -> dict[str, Path]:
    """Return an artifact's files, after checking that the copies to be sent are what the manifest says."""
    files = {}
    for entry in artifact["manifest"]["contents"]:
        files[entry["path"]] = Path(entry["local_path"])
        md5 = hashlib.md5(files[entry["path"]].read_bytes(), usedforsecurity=False).digest()
        assert entry["digest"] == base64.b64encode(md5).decode()
    return files


def table(logged: Path, records: list[tuple[str, Record]], name: str) -> pd.DataFrame:
    """Return a table that was logged."""
    [(_, row)] = history(records)
    content = json.loads((logged / "files" / row[f"{name}.path"]).read_text())
    return pd.DataFrame(content["data"], columns=content["columns"])


@pytest.mark.slow
def test_a_fit_is_a_page_of_its_study(study: Path, records: list[tuple[str, Record]]) -> None:
    [page] = [record for record in of_type(records, "run") if "project" in record]
    sha256 = hashlib.sha256((study / "laws.json").read_bytes()).hexdigest()
    laws = FittedLaws.load(study / "laws.json")
    assert (page["run_group"], page["job_type"], page["run_id"]) == ("s", "fit", f"fit-s-{sha256[:12]}")
    assert page["tags"] == [laws.chosen]
    assert page["config"]["update"]["data_sha256"] == laws.data_sha256


@pytest.mark.slow
def test_the_runs_that_laws_rest_on_are_used(study: Path, artifacts: dict[str, Record]) -> None:
    runs = artifacts["runs-s"]
    assert (runs["type"], runs["use_after_commit"]) == ("runs", True)
    files = files_of(runs)
    ids = sorted(path.parent.name for path in study.glob("*/run.json"))
    assert files.keys() == {f"{run_id}/{name}" for run_id in ids for name in LOGS}
    assert len(ids) == 12
    for name, copy in files.items():
        assert copy.is_relative_to(study / "wandb")  # beside the records: what is synced is complete
        assert copy.read_bytes() == (study / name).read_bytes()


@pytest.mark.slow
def test_the_law_states_what_it_is_and_where_it_comes_from(study: Path, artifacts: dict[str, Record]) -> None:
    law, laws = artifacts["law-s"], FittedLaws.load(study / "laws.json")
    answer = json.loads((study / "recommendation.json").read_text())
    stated = json.loads(law["metadata"])
    assert (law["type"], "use_after_commit" in law) == ("law", False)
    assert (stated["law"], stated["reason"], stated["data_sha256"]) == (laws.chosen, laws.reason, laws.data_sha256)
    assert (stated["n_params"], stated["n_tokens"]) == (64e6, 160000)
    assert stated["run_ids"] == sorted(path.parent.name for path in study.glob("*/run.json"))
    assert stated["runs_digest"] == artifacts["runs-s"]["digest"]
    assert stated["optimum"] == {d["domain"]: {k: d[k] for k in ("weight", "low", "high")} for d in answer["domains"]}
    files = files_of(law)
    assert files.keys() == {"laws.json", "recommendation.json", "report.html", "runs.csv"}
    copy = shutil.copy(files["runs.csv"], files["runs.csv"].with_suffix(".csv"))
    fitted, again = read_table([study]).frame, read_table([copy]).frame  # the same laws can be fitted to it
    pd.testing.assert_frame_equal(again[fitted.columns], fitted, check_dtype=False, check_exact=True)


@pytest.mark.slow
def test_tables_and_summary_hold_the_fits_numbers(study: Path, logged: Path, records: list[tuple[str, Record]]) -> None:
    laws, numbers = FittedLaws.load(study / "laws.json"), summary(records)
    runs = read_table([study])
    predicted = laws.best.predict(runs)
    shown = table(logged, records, "predictions")
    assert shown["runs"].value_counts().to_dict() == {"fitted": len(predicted), "held_out": len(predicted)}
    first = shown[shown["runs"] == "fitted"]
    assert first["predicted"].tolist() == predicted["predicted"].tolist()
    assert first["observed"].tolist() == predicted["observed"].tolist()
    assert set(first["run_id"]) == set(runs.frame["run_id"])
    scores = table(logged, records, "scores")
    for name, law in laws.fits.items():
        mre = scores[(scores["runs"] == "fitted") & (scores["law"] == name)].set_index("target")["mre"]
        assert mre.to_dict() == law.scores(runs).set_index("target")["mre"].to_dict()
        assert numbers[f"mre/fitted/{name}"] == pytest.approx(mre.mean())
    optimum = table(logged, records, "optimum").set_index("domain")
    answer = json.loads((study / "recommendation.json").read_text())
    assert optimum["weight"].to_dict() == answer["weights"]
    for row in answer["domains"]:
        assert numbers[f"optimum_low/{row['domain']}"] == row["low"] == optimum.loc[row["domain"], "low"]


@pytest.mark.slow
def test_the_page_with_sliders_is_shown_as_it_is(study: Path, logged: Path, records: list[tuple[str, Record]]) -> None:
    [(_, row)] = history(records)
    assert (logged / "files" / row["report.path"]).read_bytes() == (study / "report.html").read_bytes()
    assert row["report._type"] == "html-file"


def test_laws_of_other_runs_are_refused_before_anything_is_written(study: Path, tmp_path: Path) -> None:
    fewer = shutil.copytree(study, tmp_path / "s", ignore=shutil.ignore_patterns("wandb", "23"))
    code, out, err = call("-m", "scripts.wandb_fit", str(fewer), **private(tmp_path))
    assert (code, out) == (5, "")
    assert err.startswith(f"error: these laws were not fitted to the runs that are in {fewer} now: run `mixlaw fit ")
    assert not (fewer / "wandb").exists()


def test_a_fit_that_is_not_to_be_logged_is_a_sentence(study: Path, tmp_path: Path) -> None:
    code, out, err = call("-m", "scripts.wandb_fit", str(study), **private(tmp_path) | {"WANDB_MODE": "disabled"})
    assert (code, out) == (2, "")
    assert err == "error: nothing is logged, because WANDB_MODE=disabled: unset it, or set it to offline\n"


@pytest.mark.parametrize(
    ("setting", "value", "known"),
    [("WANDB_MODE", "bogus", "'online', 'offline'"), ("WANDB_BASE_URL", "nowhere", "a valid URL")],
)
def test_a_setting_that_wandb_does_not_know_is_named(
    study: Path, tmp_path: Path, setting: str, value: str, known: str
) -> None:
    code, out, err = call("-m", "scripts.wandb_fit", str(study), **private(tmp_path) | {setting: value})
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {setting}={value}: Input should be {known}")
    assert err.count("\n") == 1


def online(folder: Path, server: str) -> dict[str, str]:
    """Return the environment of a W&B that has a key for a server."""
    there = {"WANDB_MODE": "online", "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server, "WANDB_HTTP_TIMEOUT": "1"}
    return private(folder) | there


@contextmanager
def closed_port() -> Iterator[str]:
    """Keep a port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize(("status", "well"), [(200, True), (401, True), (404, True), (500, False), (503, False)])
def test_a_server_answers_unless_it_is_out_of_order(status: int, well: bool) -> None:
    with server_that_says(status) as server:
        assert answers(server) is well


def test_an_answer_of_other_laws_is_not_logged(study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "s")
    fit = ["fit", str(copy), "--law", "multiplicative", "--n-bootstrap", "2", "--n-starts", "2"]
    assert mixlaw([*fit, "--out", str(copy / "laws.json")]) == 0
    with pytest.raises(ConfigError, match=r"recommendation\.json was not made from .*: run `mixlaw recomm"):
        read_fit(copy)


@pytest.mark.slow  # waits 3 s
def test_who_does_not_speak_http_does_not_answer() -> None:
    with closed_port() as nobody:
        assert not answers(nobody)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.slow  # waits
@pytest.mark.parametrize("patience", [{"WANDB_INIT_TIMEOUT": "2"}, {}], ids=["asked for", "its own"])
def test_a_fit_gives_up_a_server_out_of_reach(patience: dict[str, str], study: Path, tmp_path: Path) -> None:
    """W&B's own patience is 90 s."""
    with closed_port() as server:
        environment = online(tmp_path, server) | patience
        code, out, err = call("-m", "scripts.wandb_fit", str(study), timeout=60, **environment)
    assert (code, out) == (2, "")
    [error] = [line for line in err.splitlines() if not line.startswith("wandb: ")]
    assert (
        f"error: W&B's server {server} does not answer; WANDB_MODE=offline does without it, and scripts/sync" in error
    )
    assert "login" not in error


def test_a_key_that_a_server_refuses_needs_a_login(study: Path, tmp_path: Path) -> None:
    with server_that_says(401) as server:
        code, _, err = call("-m", "scripts.wandb_fit", str(study), **online(tmp_path, server))
    [error] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert error.endswith("): `wandb login` first")


@needs_workspaces
def test_dashboards_do_not_ask_for_a_login_where_the_server_is_out_of_reach(study: Path, tmp_path: Path) -> None:
    with closed_port() as server:
        command = ["-m", "scripts.wandb_dashboard", str(study), "--entity", "us"]
        code, _, err = call(*command, **online(tmp_path, server))
    [error] = [line for line in err.splitlines() if not line.startswith("wandb: ")]
    assert code == 2
    assert f"W&B's server {server} does not answer; try again" in error
    assert "login" not in error


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the script, the tools that it calls in bin, and no wandb."""
    script = tmp_path / "scripts" / "sync_wandb.sh"
    script.parent.mkdir()
    shutil.copy(ROOT / "scripts" / "sync_wandb.sh", script)
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "dirname", "find", "sort"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    return tmp_path


def write_wandb(folder: Path, name: str) -> None:
    """Write a stub that says its name and what it was asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wandb").write_text(f'#!/bin/sh\necho {name} "$@"\n')
    (folder / "wandb").chmod(0o755)


def sync(checkout: Path, *arguments: str) -> tuple[int, str, str]:
    """Call the script with nothing but the folder's tools; return exit code, stdout and stderr."""
    command = [str(checkout / "scripts" / "sync_wandb.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(checkout / "bin")})
    return done.returncode, done.stdout, done.stderr


def write_offline(checkout: Path, *places: str) -> str:
    """Write folders as of offline runs; return their study."""
    for place in places:
        (checkout / "s" / place).mkdir(parents=True)
    return str(checkout / "s")


def test_syncing_sends_runs_before_the_fits_that_use_them(checkout: Path) -> None:
    fit, *runs = "wandb/offline-run-1-fit-s-aa", "0d87/wandb/offline-run-3-0d87", "f1/wandb/offline-run-2-f1"
    write_wandb(checkout / "bin", "path")
    code, sent, err = sync(checkout, write_offline(checkout, fit, *runs))
    assert (code, err) == (0, "")
    assert re.findall(r"^path sync .*/offline-run-\d-(.*)$", sent, re.MULTILINE) == ["0d87", "f1", "fit-s-aa"]


def test_syncing_needs_no_activated_environment(checkout: Path) -> None:
    study = write_offline(checkout, "wandb/offline-run-1-a")
    write_wandb(checkout / ".venv" / "bin", "venv")
    assert sync(checkout, study) == (0, f"venv sync {study}/wandb/offline-run-1-a\n", "")


def test_syncing_without_wandb_says_so(checkout: Path) -> None:
    said = f"no wandb on PATH, nor in {checkout}/.venv: pip install -e '.[train]' there\n"
    assert sync(checkout, write_offline(checkout, "wandb/offline-run-1-a")) == (2, "", said)


def test_syncing_nothing_shows_the_usage(checkout: Path) -> None:
    assert sync(checkout) == (2, "", f"usage: {checkout}/scripts/sync_wandb.sh runs/STUDY\n")


@pytest.mark.slow  # the real wandb, four times
def test_syncing_sends_the_logs_of_runs_that_never_had_wandb(plan: Callable[..., Plan], tmp_path: Path) -> None:
    """Our run log becomes an offline run of the real wandb, which a stub in its place on PATH is asked to sync."""
    runs, plans = tmp_path / "runs" / "s", [plan("study_name=s", f"seed={seed}") for seed in (0, 1)]
    assert [train(one) for one in plans] == ["finished"] * 2
    write_wandb(tmp_path / "bin", "path")
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [str(ROOT / "scripts" / "sync_wandb.sh"), str(runs)]
    environment = {**os.environ, **private(tmp_path), "PATH": path}
    for _ in range(2):  # the second time there is nothing left to write, and wandb knows what it sent
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r"^path sync .*/offline-run-[^/]+$", done.stdout, re.MULTILINE)) == 2
    assert done.stdout.startswith("0 logs written for W&B (offline), 0 not\n")
    for name in (one.run_id for one in plans):
        facts = json.loads((runs / name / "run.json").read_text())
        rows = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        [page] = (runs / name).glob("wandb/offline-run-*")
        assert history(inspect(page)) == [(step, as_metrics(row, facts)) for step, row in enumerate(rows)]


def test_without_the_extra_dashboards_say_so(study: Path, tmp_path: Path) -> None:
    (tmp_path / "wandb_workspaces.py").write_text("raise ModuleNotFoundError('not here')")
    command = ["-m", "scripts.wandb_dashboard", str(study), "--entity", "us"]
    code, _, err = call(*command, **private(tmp_path), PYTHONPATH=str(tmp_path))
    assert (code, err) == (2, "error: dashboards need an optional extra (not here): pip install -e '.[dashboards]'\n")


@needs_workspaces
def test_without_a_login_dashboards_say_so(study: Path, tmp_path: Path) -> None:
    command = ["-m", "scripts.wandb_dashboard", str(study), "--entity", "us"]
    with server_that_says(401) as server:
        code, _, err = call(*command, **private(tmp_path), WANDB_BASE_URL=server)
    assert code == 2
    assert err.startswith("error: W&B refused it (")
    assert err.endswith("): `wandb login` first\n")
    assert err.count("\n") == 1


def all_of(spec: Any, key: str) -> Iterator[Any]:
    """Yield every value of that key, at any depth."""
    for name, part in spec.items() if isinstance(spec, dict) else enumerate(spec) if isinstance(spec, list) else ():
        if name == key:
            yield part
        yield from all_of(part, key)


@pytest.fixture
def shown(study: Path) -> Callable[[Callable[..., Any]], dict[str, Any]]:
    """Return a view as it would be sent."""

    def build(view: Callable[..., Any]) -> dict[str, Any]:
        spec = view(read_study(study), "us", "mixlaw")._to_model().spec
        return json.loads(spec.model_dump_json(by_alias=True, exclude_none=True))

    return build


@pytest.fixture
def mirrored(study: Path) -> set[str]:
    """Return the names under which the mirror sends a run's numbers."""
    run = study / "00"
    facts = json.loads((run / "run.json").read_text())
    rows = [as_metrics(json.loads(line), facts) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speed = Speed(1.0, 1.0)
    speed.reached(1, 1.0)
    return {name for row in rows for name in row} | set(speed.reached(2, 2.0))


@needs_workspaces
def test_the_workspace_draws_what_is_mirrored_by_study(
    shown: Callable[[Callable[..., Any]], dict[str, Any]], mirrored: set[str]
) -> None:
    section = shown(build_workspace)["section"]
    drawn = {s["name"]: list(all_of(s, "metrics")) for s in section["panelBankConfig"]["sections"]}
    assert drawn["loss per domain"] == [["loss/code"], ["loss/web"], ["loss/held"]]
    assert drawn["realised weights"] == [["weight/code"], ["weight/web"]]
    assert ["train/mfu"] in drawn["training"]
    assert {name for panels in drawn.values() for [name] in panels} <= mirrored
    assert set(all_of(section["panelBankConfig"]["sections"], "xAxis")) - {"_step"} == {"n_tokens"}
    [runs] = section["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["group"]
    assert [(f["key"]["name"], f["value"]) for f in runs["filters"]["filters"]] == [("jobType", "train")]


@needs_workspaces
def test_views_of_runs_with_phases_show_these(study: Path) -> None:
    read = replace(read_study(study), phases=2)
    spec = build_workspace(read, "us", "mixlaw")._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    sections = {
        s["name"]: list(all_of(s, "metrics")) for s in json.loads(spec)["section"]["panelBankConfig"]["sections"]
    }
    weights = [[f"weight@{p}/{domain}"] for p in (1, 2) for domain in ("code", "web")]
    assert sections["weights by phase"] == [["train/phase"], *weights]
    blocks = build_report(read, "us", "mixlaw")._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    assert {"phases", "phase_gains", "switches"} <= {str(value) for value in all_of(json.loads(blocks), "val")}


def test_the_number_of_phases_is_that_of_the_runs(study: Path, tmp_path: Path) -> None:
    assert read_study(study).phases == 1
    copy = shutil.copytree(study, tmp_path / "s", ignore=shutil.ignore_patterns("wandb"))
    facts = json.loads((copy / "23" / "run.json").read_text())
    spent = {"code": 100, "web": 100}
    more = {"weights": facts["mixture"], "tokens_by_domain": spent}
    phases = [{"until": step / 800, "step": step} | more for step in (200, 400, 800)]
    (copy / "23" / "run.json").write_text(json.dumps(facts | {"phases": phases}))
    assert read_study(copy).phases == 3


def test_phases_stand_in_the_tables_the_summary_and_the_metadata() -> None:
    laws = fitted("multiplicative-phases", {"main": TRUTHS["multiplicative-phases"]})
    answer = recommend(laws, n_params=1e9, n_tokens=1e11, target="main", phases=2, switch=0.8)
    tables, plan = answer_tables(answer), answer.phases
    assert tables.keys() == {"optimum", "phases", "phase_gains", "switches"}
    numbers = numbers_of(pd.DataFrame({"runs": ["fitted"], "law": ["x"], "mre": [1.0]}), answer)
    assert numbers["phases_gain"] == plan.gains["gain"][0]
    assert numbers["phase_1_until"] == 0.8
    for row in tables["phases"].to_dict("records"):
        assert numbers[f"phase_{row['phase']}_weight/{row['domain']}"] == row["weight"]
    assert answer_facts(answer)["phases"]["override"] == plan.override
    static = replace(answer, phases=None)
    assert answer_tables(static).keys() == {"optimum"}
    assert "phases" not in answer_facts(static)


def test_predictions_of_runs_with_phases_hold_their_phases() -> None:
    laws = fitted("multiplicative-phases", {"main": TRUTHS["multiplicative-phases"]})
    study = phase_study("multiplicative-phases")
    shown = prediction_table(laws, study, "fitted")
    assert {"until@1", "weight_code@1", "weight_web@2"} <= set(shown)
    np.testing.assert_allclose(shown["until@1"], study.frame["until@1"])


@pytest.mark.slow
@needs_workspaces
def test_the_report_draws_what_runs_and_fit_log(
    shown: Callable[[Callable[..., Any]], dict[str, Any]], mirrored: set[str], records: list[tuple[str, Record]]
) -> None:
    blocks = shown(build_report)["blocks"]
    headings = [b["children"][0]["text"] for b in blocks if b["type"] == "heading"]
    assert headings == ["Loss per domain", "The simplex", "Predicted and observed", "The optimal mixture"]
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    filters = [[f["value"] for f in next(all_of(grid, "filters"))["filters"]] for grid in grids]
    assert filters == [["s", "train"], ["s", "train"], ["s", "fit"], ["s", "fit"]]
    losses, simplex, predictions, optimum = grids
    fit = summary(records)
    assert list(all_of(losses, "metrics")) == [["loss/code"], ["loss/web"], ["loss/held"]]
    summaries = {a.removeprefix("summary:") for a in all_of(simplex, "accessor")} - {"config:n_params.value.total"}
    assert {"weight/code", "weight/web", "loss/held"} <= summaries <= mirrored
    bars = {name.removeprefix("summary_metrics.") for names in all_of(optimum, "metrics") for name in names}
    assert {"optimum_low/code", "optimum_weight/web", "optimum_high/web"} <= bars <= fit.keys()
    assert list(all_of(predictions, "fieldSettings")) == [{"x": "observed", "y": "predicted"}]
    assert {"name": "tableKey", "value": "predictions"} in [a for args in all_of(predictions, "args") for a in args]
    tables = {value for grid in (predictions, optimum) for value in all_of(grid, "val") if f"{value}.path" in fit}
    assert tables == {"scores", "optimum"}
