"""Hugging Face datasets: a Python file that calls `interleave_datasets`, which draws examples."""

from mixlaw.export.blend import Blend
from mixlaw.export.format import Format
from mixlaw.export.python_file import python_file

IMPORTS = "from datasets import interleave_datasets, load_dataset"
FUNCTION = '''\
def mixture(seed=42, **options):
    """Return the mixture as an endless stream of examples; options go to every load_dataset."""
    options = {"split": "train", **options}
    parts = [load_dataset(path, streaming=True, **options).repeat(None) for path, _ in SOURCES.values()]
    shares = [share for _, share in SOURCES.values()]
    return interleave_datasets(parts, probabilities=shares, seed=seed)
'''


def write(blend: Blend) -> str:
    """Return Python source with a function `mixture`."""
    return python_file(blend, IMPORTS, FUNCTION)


HF = Format("hf", "Hugging Face datasets: from this_file import mixture", True, write)
