"""LitData: a Python file that makes a `CombinedStreamingDataset`, which draws samples."""

from mixlaw.export.blend import Blend
from mixlaw.export.format import Format
from mixlaw.export.python_file import python_file

IMPORTS = "from litdata import CombinedStreamingDataset, StreamingDataset"
FUNCTION = '''\
def mixture(seed=42, **options):
    """Return the mixture, which ends with the first exhausted source; options go to every StreamingDataset."""
    parts = [StreamingDataset(path, **options) for path, _ in SOURCES.values()]
    shares = [share for _, share in SOURCES.values()]
    return CombinedStreamingDataset(parts, seed=seed, weights=shares, iterate_over_all=False)
'''


def write(blend: Blend) -> str:
    """Return Python source with a function `mixture`."""
    return python_file(blend, IMPORTS, FUNCTION)


LITDATA = Format("litdata", "LitData: from this_file import mixture", True, write)
