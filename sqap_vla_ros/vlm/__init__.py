"""The vision-language network that the policies share, in the order of the data's way.

preprocessing   camera image -> model image -> pixel values of the two vision towers
vision          pixel values -> patch features
projector       patch features -> visual embeddings
tokenizer       instruction -> token ids
language        embeddings -> hidden state of the last position (the prefill)
layers          what a decoder layer is, and the one loop over decoder layers
attention       rotary positions and attention
frame_reuse     a prefill that reuses parts of the previous frame (VLA-Cache)
statistics      normalised actions <-> actions in metres and radians
checkpoint      finds and reads a checkpoint
weights         moves its tensors into modules, checked and one at a time

pruning/        which visual tokens stay
lowbit/         low-bit linear layers
kernels/        the GPU's kernels, in Triton
runtime/        fused blocks and CUDA graphs
"""
