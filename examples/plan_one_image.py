"""A plan from one camera image: what the policy would do next, and which parts of the image it looked at."""

import numpy as np
from PIL import Image

from sqap_vla_ros.config.robot import load_configuration
from sqap_vla_ros.core.observation import Observation
from sqap_vla_ros.policies.registry import load_policy

policy = load_policy(load_configuration("libero_panda", checkpoint="libero_small"), print)
observation = Observation(
    stamp_ns=0,  # also the seed of the plan's noise
    image=np.asarray(Image.open("examples/drawer.png")),
    instruction="close the top drawer of the cabinet",
    T_base_tool=np.eye(4),  # the actions are deltas; where the tool is does not change them
    tool_px=np.array([58.0, 95.0]),  # where the tool is in the image: the ring is drawn around it
)
chunk = policy.plan(observation)

print(
    f"{len(chunk.actions)} actions of {chunk.time_step_s:g} s from {len(chunk.selection.indices)} of 256 visual tokens"
)
print("the tool moves by", np.round(1e3 * chunk.actions[:, :3].sum(axis=0)).astype(int), "mm")
