"""OpenVLA (arXiv 2406.09246) and OpenVLA-OFT (arXiv 2502.19645): CogACT's vision-language model without its head.

model           images, state and token ids -> normalised actions
generation      greedy action tokens, one after another (OpenVLA)
heads           projectors into the sequence, and the head behind it (OpenVLA-OFT)
bins            action tokens <-> normalised actions
denoising       the diffusion head's process
images          camera image -> model image, as in training
state           the robot's state and the gripper, as the data define them
statistics      normalisation of actions and state
checkpoint      what a published directory says
components      its files of heads and projectors
adapted         its towers with low-rank adapters (FiLM)
build           directory -> network
"""
