"""The ROS of the tests: this machine only, a domain of each test process, the virtual environment as its prefix."""

import os
import socket
import sys

import torch
from hypothesis import settings

# What a user's shell may have set to reach other machines, or another middleware.
for _name in ("ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "ROS_LOCALHOST_ONLY", "ROS_SECURITY_ENABLE"):
    os.environ.pop(_name, None)
for _name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
    os.environ.pop(_name, None)


def reserve_domain() -> tuple[int, socket.socket]:
    """A ROS domain that no other process of tests on this machine uses while the returned socket is open.

    The socket holds a port of the domain that DDS itself does not use: it numbers at most 120 participants.
    """
    for number in range(50):
        domain = (os.getpid() + number) % 50 + 1
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", 7400 + 250 * domain + 249))
        except OSError:
            reservation.close()
        else:
            return domain, reservation
    raise RuntimeError("all ROS domains from 1 to 50 are in use on this machine")


_DOMAIN, _RESERVATION = reserve_domain()
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(_DOMAIN)
os.environ["RMW_IMPLEMENTATION"] = "rmw_fastrtps_cpp"
os.environ["AMENT_PREFIX_PATH"] = sys.prefix
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Where there is no GPU its kernels are interpreted; Triton must be told before anything imports it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Random inputs are the same ones in every run: a test that fails fails again.
settings.register_profile("repeatable", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("repeatable")
