"""Fitting a law to a table: multi-start least squares, bootstrap over runs, and laws.json."""
