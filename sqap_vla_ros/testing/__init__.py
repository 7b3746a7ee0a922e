"""What tests and benchmarks share: stub policies, a synthetic robot, random checkpoints."""
