import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = """n_params,n_tokens,weight_a,weight_b,loss_t
{rows}
"""
BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "hydra", "omegaconf", "transformers", "datasets", "wandb"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Losses of an additive law at 3 sizes, 4 numbers of tokens and 5 mixtures."""
    rows = [
        f"{n},{d},{a},{1 - a},"
        f"{2 + 1 / (1.5 * a**0.5 + 0.8 * (1 - a) ** 0.6) + 0.3 * (n / 1e8) ** -0.3 + 0.4 * (d / 1e9) ** -0.3}"
        for n in (1e7, 1e8, 1e9)
        for a in (0.1, 0.3, 0.5, 0.7, 0.9)
        for d in (1e9, 2e9, 4e9, 8e9)
    ]
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(TABLE.format(rows="\n".join(rows)))
    return path


def test_the_wheel_holds_the_fitter_only(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"mixlaw"}
    assert {"mixlaw/py.typed", "mixlaw/tables/measured/README.md"} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_fitter_needs_nothing_of_the_trainer(wheel):
    metadata = zipfile.ZipFile(wheel)
    name = next(n for n in metadata.namelist() if n.endswith("METADATA"))
    needed = [line for line in metadata.read(name).decode().splitlines() if line.startswith("Requires-Dist")]
    assert {line.split()[1].split(">")[0] for line in needed if "extra ==" not in line} == {
        "numpy",
        "scipy",
        "pandas",
        "matplotlib",
        "bokeh",
        "tqdm",
        "jinja2",
        "pyyaml",
        "threadpoolctl",
    }


def test_the_unpacked_wheel_fits_and_recommends_without_torch(wheel, table, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    commands = [
        "check example:text",
        f"fit {table} --law additive --n-bootstrap 5 --out laws.json",
        "recommend laws.json --n-params 7e9 --n-tokens 150e9 --target t",
        f"report {table} --laws laws.json",  # its templates are package data
    ]
    code = f"{BLOCKED}sys.path.insert(0, {str(site)!r})\nfrom mixlaw.cli import main\n"
    code += f"assert main.__file__.startswith({str(site)!r})\n"
    code += f"for command in {commands!r}:\n    assert main.main(command.split()) == 0, command\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs: 4 model sizes" in done.stdout
    assert "train it with: mixture.weights={a:" in done.stdout
    assert "Can the laws be trusted?" in (tmp_path / "report.html").read_text()
