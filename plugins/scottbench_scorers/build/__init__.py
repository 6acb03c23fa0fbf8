"""A script that makes safetensors of published pickles; never imported by a benchmark run."""
