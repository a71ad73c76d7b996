"""From loss to benchmark: scores as a sigmoid of a target's loss, with intervals and a verdict; see `README.md`."""
