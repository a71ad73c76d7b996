"""Run directories, the contract between trainer and fitter, and the status of studies."""
