"""Scripts that build the shipped assets; never imported by a benchmark run."""
