"""Figures, HTML tables and the report."""
