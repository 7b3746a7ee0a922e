"""`sqap-vla compress`, `inspect` and `fidelity`."""
