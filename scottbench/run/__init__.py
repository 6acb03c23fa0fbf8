"""One plan in execution: sample, measure, record."""
