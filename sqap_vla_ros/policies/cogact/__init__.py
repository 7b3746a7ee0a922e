"""CogACT (arXiv 2411.19650): a vision-language model whose last hidden state conditions a diffusion action head.

policy            observation -> action chunk
model             images and token ids -> samples of the action head
action_head       the diffusion transformer
diffusion         noise schedules and samplers
continuation      a new chunk that continues the running one (real-time chunking)
load              policy file and checkpoint -> policy, on the device where it runs
checkpoint        published checkpoint -> model
compressed, store compressed checkpoint -> model, and what such a checkpoint holds
layer_importance  which decoder layers EfficientVLA drops
ensemble          the published adaptive ensemble, as SIMPLER runs it
published         sizes of the published networks
fast/             planning with CUDA graphs
"""
