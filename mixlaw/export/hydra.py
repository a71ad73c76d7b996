"""The trainer of this repository: a configuration of its Hydra group `mixture`."""

from mixlaw.export.blend import Blend
from mixlaw.export.format import Format
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture


def write(blend: Blend) -> str:
    """Return the YAML of `configs/mixture/<name>.yaml`; domains that it does not name have weight 0."""
    return Mixture.of({d.name: d.weight for d in blend.domains}).to_yaml()


HYDRA = Format(
    "hydra",
    "the trainer of this repository: save as configs/mixture/big.yaml, use as mixture=big",
    False,
    write,
    digits=4,
    write_phases=PhasedMixture.to_yaml,
)
