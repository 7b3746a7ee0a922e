"""Recipes and frames for compressing a tiny checkpoint."""

from compressions import drawn_frames, named_recipe

NEAREST = named_recipe("smoothquant-w8a8", smoothing=None)
FULL = named_recipe("w4a4-residual")
FRAMES = drawn_frames(1)
