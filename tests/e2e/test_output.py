"""What commands print, whatever the terminal can show and whoever reads it, and the codes that they end with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixlaw.cli import main

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["网页", "cc,news", "c++", "é😀"]
BIG = ["--n-params", "1e9", "--n-tokens", "2e10"]
NARROW = [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with a table whose domains have names of many kinds, and the law that was fitted to it."""
    folder = tmp_path_factory.mktemp("output")
    rng = np.random.default_rng(0)
    rows = []
    for i, h in enumerate(rng.dirichlet(np.ones(len(NAMES)), 16)):
        for n in (1e6, 4e6):
            row = {"run_id": f"{i}-{n:g}", "n_params": n, "n_tokens": 20 * n * (1 + i % 3)}
            row |= {f"weight_{name}": w for name, w in zip(NAMES, h, strict=True)}
            loss = 2 + 0.3 * (n / 1e6) ** -0.3 + 0.2 * (1 + i % 3) ** -0.3
            rows.append(row | {f"loss_{name}": loss + 0.1 / (0.1 + h[j]) ** 0.5 for j, name in enumerate(NAMES)})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    fast = ["--law", "additive", "--bootstrap", "8", "--starts", "4"]
    assert main(["fit", str(folder / "table.csv"), *fast, "--out", str(folder / "laws.json")]) == 0
    return folder


def shell(command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which $X is mixlaw's command line."""
    known = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHONIO"))}
    known |= {"X": f"{sys.executable} -m mixlaw.cli", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | env
    return subprocess.run(["bash", "-c", command], cwd=cwd, env=known, capture_output=True, check=False)


@pytest.mark.parametrize("env", NARROW)
@pytest.mark.parametrize(
    "command",
    ["check table.csv", "predict laws.json table.csv", f"recommend laws.json {' '.join(BIG)}", "laws"],
)
def test_a_terminal_that_is_not_utf8_gets_every_character_escaped_or_shown(study, command, env):
    plain, json_too = shell(f"$X {command}", study, **env), shell(f"$X {command} --json", study, **env)
    for done in (plain, json_too):
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert json.loads(json_too.stdout.decode("latin-1")) == json.loads(shell(f"$X {command} --json", study).stdout)
    if command != "laws":
        assert rb"\u7f51\u9875" in plain.stdout


@pytest.mark.parametrize(
    "wrong", ["fit 网页.csv", "recommend laws.json --min 网=1 " + " ".join(BIG), "predict laws.json 网.csv"]
)
def test_errors_that_quote_what_a_terminal_cannot_show_are_sentences(study, wrong):
    done = shell(f"$X {wrong}", study, PYTHONIOENCODING="ascii")
    assert done.returncode in (2, 3)
    assert done.stderr.startswith(b"error: ")
    assert rb"\u7f51" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["predict laws.json table.csv", "laws", "check table.csv", "--help", f"recommend laws.json {' '.join(BIG)}"],
)
def test_a_reader_that_leaves_early_gets_no_complaint(study, command):
    done = shell(f"set -o pipefail; $X {command} 2>errors.txt | head -1 >first.txt", study)
    assert done.returncode == 0
    assert (study / "errors.txt").read_text().count("Broken") == 0
    assert "Traceback" not in (study / "errors.txt").read_text()
    assert "Exception" not in (study / "errors.txt").read_text()


def test_notes_that_nobody_reads_do_not_keep_a_command_from_its_work(study):
    done = shell(
        "$X fit table.csv --law base --bootstrap 4 --starts 4 --out again.json 2>&1 | true; exit ${PIPESTATUS[0]}",
        study,
    )
    assert done.returncode == 0
    assert (study / "again.json").exists()


def test_closed_and_full_outputs_are_no_tracebacks(study):
    closed = shell("$X laws >&-", study)
    assert (closed.returncode, closed.stderr) == (0, b"")
    full = shell("$X laws >/dev/full", study)
    assert full.returncode == 4
    assert full.stderr.startswith(b"error: output: No space left")
    assert b"Traceback" not in full.stderr
    assert b"Exception" not in full.stderr


def test_domains_with_separators_in_their_names_can_be_limited(study, tmp_path, capsys):
    out = tmp_path / "r.json"
    asked = ["recommend", str(study / "laws.json"), *BIG, "--out", str(out)]
    limits = ["--min", '"cc,news"=0.1,c++=0.2', "--max", "网页=0.3", "--group", "g=c+++'cc,news':0.5:0.9"]
    assert main([*asked, *limits, "--target", '"cc,news":2,c++']) == 0
    found = json.loads(out.read_text())
    assert found["weights"]["cc,news"] >= 0.1 - 1e-6
    assert found["weights"]["c++"] >= 0.2 - 1e-6
    assert 0.5 - 1e-6 <= found["weights"]["cc,news"] + found["weights"]["c++"] <= 0.9 + 1e-6
    assert found["targets"] == {"cc,news": pytest.approx(2 / 3), "c++": pytest.approx(1 / 3)}
    assert main([*asked, "--pin", "cc,news=0.25"]) == 0  # a known name needs no quotes
    assert json.loads(out.read_text())["weights"]["cc,news"] == pytest.approx(0.25, abs=1e-6)
    tokens = "'cc,news'=5e9,c++=5e9,网页=5e9,é😀=2e10"
    assert main([*asked, "--max-epochs", "1", "--available", tokens, "--prior", "natural"]) == 0
    assert json.loads(out.read_text())["weights"]["cc,news"] <= 0.25 + 1e-6
    assert json.loads(out.read_text())["override"] == ""
    assert "Hydra's command line cannot hold these names" in capsys.readouterr().out


def test_a_target_called_average_is_asked_for_by_name_and_the_mean_by_its_own(study, tmp_path, capsys):
    frame = pd.read_csv(study / "table.csv").rename(columns={"loss_网页": "loss_average"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    laws, out = str(tmp_path / "l.json"), tmp_path / "r.json"
    assert (
        main(["fit", str(tmp_path / "t.csv"), "--law", "additive", "--bootstrap", "4", "--starts", "4", "--out", laws])
        == 0
    )
    capsys.readouterr()
    asked = {}
    for target in ([], ["--target", "average"], ["--target", "mean"]):
        assert main(["recommend", laws, *BIG, *target, "--out", str(out)]) == 0
        told = (
            "'average' is a target of the table; --target mean is the mean over the domains" in capsys.readouterr().err
        )
        assert told == (target == ["--target", "average"])
        asked[" ".join(target)] = json.loads(out.read_text())["targets"]
    mean = dict.fromkeys(["cc,news", "c++", "é😀"], pytest.approx(1 / 3))
    assert asked == {"": mean, "--target average": {"average": 1.0}, "--target mean": mean}


WRONG_OPTIONS = """
fit table.csv --law jiont
fit table.csv --target nosuch
fit table.csv --set x=y
fit table.csv --set n_params=1
fit table.csv --columns n_params
fit table.csv --columns n_params=nosuch
fit table.csv --layout nosuch
fit table.csv --join nosuch
fit table.csv --higher-is-better nosuch
fit table.csv --bootstrap 0
fit table.csv --starts 0
fit table.csv --seed -1
fit table.csv --delta 0
fit table.csv --belief -1
fit table.csv --holdout nosuch
compare table.csv --laws jiont
compare table.csv --against nosuch
compare table.csv --target nosuch
predict laws.json table.csv --law nosuch
predict laws.json table.csv --level 2
recommend laws.json BIG --law nosuch
recommend laws.json BIG --target nosuch
recommend laws.json BIG --target c++:x
recommend laws.json BIG --min nosuch=1
recommend laws.json BIG --min c++=2
recommend laws.json BIG --max c++=nan
recommend laws.json BIG --pin c++=-1
recommend laws.json BIG --group g=c++
recommend laws.json BIG --max-epochs 1
recommend laws.json BIG --available nosuch=1
recommend laws.json BIG --prior nosuch
recommend laws.json BIG --pull 1
recommend laws.json --n-params 0 --n-tokens 1
plot laws.json optimum
plot laws.json optimum BIG --law nosuch
plot laws.json optimum BIG --out o.txt
plot laws.json path
laws --domains 1
report table.csv
nosuch
"""
UNREADABLE = """
check nosuch.csv
fit folder
predict nosuch.json table.csv
predict table.csv table.csv
predict folder table.csv
recommend nosuch.json BIG
recommend folder BIG
plot nosuch.json parameters
plot laws.json residuals --table nosuch.csv
report table.csv --laws nosuch.json
report table.csv --laws laws.json --recommendation nosuch.json
report table.csv --laws laws.json --recommendation table.csv
report table.csv --laws laws.json --recommendation folder
report nosuch.csv --laws laws.json
"""
UNWRITABLE = """
fit table.csv --law base --bootstrap 2 --starts 2 --out folder
predict laws.json table.csv --out table.csv/x.csv
recommend laws.json BIG --out folder
recommend laws.json BIG --override table.csv/x.yaml
plot laws.json parameters --out table.csv/o.png
report table.csv --laws laws.json --out folder
"""
BY_CODE = {2: WRONG_OPTIONS, 3: UNREADABLE, 4: UNWRITABLE}
COMMANDS = [(line, code) for code, text in BY_CODE.items() for line in text.strip().split("\n")]


@pytest.mark.parametrize(("command", "code"), COMMANDS)
def test_every_mistake_ends_in_a_sentence_and_its_own_code(study, monkeypatch, capsys, command, code):
    monkeypatch.chdir(study)
    Path("folder").mkdir(exist_ok=True)
    try:
        ended = main([word for part in command.split() for word in (BIG if part == "BIG" else [part])])
    except SystemExit as error:  # argparse's own
        ended = error.code
    said = capsys.readouterr().err
    assert ended == code, said
    assert "error: " in said
