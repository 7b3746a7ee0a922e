"""CogACT on a GPU: fused, and planned by CUDA graphs.

fast_head      the action head in half precision, with few launches per block
graph_forward  one plan as a function with static shapes
graphs         one recorded graph per length of text
plans          from an observation to a plan by these graphs
"""
