"""The ROS of the tests: this machine only, a domain of this run's own, the virtual environment as its prefix."""

import os
import sys

import torch

# What a user's shell may have set to reach other machines, or another middleware.
for _name in ("ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "ROS_LOCALHOST_ONLY", "ROS_SECURITY_ENABLE"):
    os.environ.pop(_name, None)
for _name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
    os.environ.pop(_name, None)

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)
os.environ["RMW_IMPLEMENTATION"] = "rmw_fastrtps_cpp"
os.environ["AMENT_PREFIX_PATH"] = sys.prefix
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Where there is no GPU its kernels are interpreted; Triton must be told before anything imports it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
