"""SIMPLER, the benchmark of the paper."""
