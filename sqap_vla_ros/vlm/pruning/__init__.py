"""Token pruning: which visual tokens stay in the language model.

inputs           what a selector can look at: hidden states and attention of one sample
registry         the table of selectors: method of a policy file -> its backends
sqap             SQAP-VLA: attention, robot ring, farthest points (the numpy reference)
on_device        the same choice for one sample or a batch on a GPU, in torch or in Triton
fastv            FastV: the most attended tokens
efficientvla     EfficientVLA: relevant and diverse tokens, and which layers are dropped
random_dropping  random tokens, the baseline
vla_cache        VLA-Cache: tokens that are reused from the previous frame instead of dropped
"""
