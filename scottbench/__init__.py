"""scottbench: a benchmark of few-step text-to-image samplers."""

__version__ = "0.1.0"
