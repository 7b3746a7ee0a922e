"""Low-bit integers: how weights and activations are rounded, rotated, stored and multiplied."""
