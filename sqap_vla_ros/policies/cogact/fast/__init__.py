"""CogACT's forward with static shapes, captured as CUDA graphs."""
