"""The run directory, the contract between trainer and fitter; and the state of a study."""
