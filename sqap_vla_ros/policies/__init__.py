"""Policies: each plans an action chunk from an observation. `registry.load_policy` is the one way to get one."""
