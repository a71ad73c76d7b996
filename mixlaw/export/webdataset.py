"""WebDataset: a Python file that makes a `RandomMix`, which draws samples."""

from mixlaw.export.blend import Blend
from mixlaw.export.format import Format
from mixlaw.export.python_file import python_file

IMPORTS = "import webdataset as wds"
FUNCTION = '''\
def mixture(**options):
    """Return the mixture as an endless stream of samples; options go to every WebDataset."""
    options = {"resampled": True, "shardshuffle": False, **options}
    parts = [wds.WebDataset(shards, **options) for shards, _ in SOURCES.values()]
    return wds.RandomMix(parts, [share for _, share in SOURCES.values()])
'''


def write(blend: Blend) -> str:
    """Return Python source with a function `mixture`."""
    return python_file(blend, IMPORTS, FUNCTION)


WEBDATASET = Format("webdataset", "WebDataset: from this_file import mixture", True, write)
