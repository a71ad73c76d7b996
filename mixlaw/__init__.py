"""mixlaw: scaling laws for data mixtures."""

__version__ = "0.2.0"
