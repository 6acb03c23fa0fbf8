"""Intervals of values, paired tests of two cells, and verdicts on claims; all of them rest on influences."""
