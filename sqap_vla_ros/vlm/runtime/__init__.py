"""How a forward pass is executed fast on a GPU: fused blocks, and CUDA graphs of functions with static shapes.

device         which device a network runs on
fused_linears  a linear layer with the norm or activation before it and the residual sum after it
fused_blocks   decoder layers and vision blocks made of these
fuse           replaces a network's blocks by fused ones, in place
cuda_graph     records a function once and replays it in one launch
"""
