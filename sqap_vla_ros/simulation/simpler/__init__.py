"""SIMPLER, the simulated benchmark of the paper."""
