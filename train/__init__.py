"""One run: a model, a schedule and a weighted stream become a run directory."""
