"""Intervals, paired tests and verdicts, from influences."""
