"""Nothing that make starts reaches the ROS of another machine, whatever the variables of the shell are."""

import json
import os
import re
import subprocess
import sys

import pytest
from paths import ROOT

# A shell in a robotics laboratory.
LABORATORY = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    "ROS_DOMAIN_ID": "101",
    "ROS_STATIC_PEERS": "192.168.1.2",
    "ROS_DISCOVERY_SERVER": "192.168.1.2:11811",
    "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages",
    "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
}
REPORT = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.mark.parametrize("target", ["demo", "test", "test-fast", "test-live-stress", "test-kilted", "bench"])
def test_a_target_runs_ros_on_this_machine_only(target):
    dry_run = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, env=os.environ | LABORATORY, capture_output=True, text=True, check=True
    )
    lines = dry_run.stdout.replace("\\\n", " ").splitlines()
    command = next(found for line in lines if (found := re.search(r"(.*?)\S*/\.venv\S*/bin/python ", line)))
    prefix = command[1]
    result = subprocess.run(
        ["sh", "-c", f"{prefix} {sys.executable} -c '{REPORT}'"],
        env=os.environ | LABORATORY,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(result.stdout)
    assert seen["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert 1 <= int(seen["ROS_DOMAIN_ID"]) <= 100
    assert seen["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    assert not {"ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "PYTHONPATH"} & seen.keys()


def test_the_tests_themselves_discover_on_this_machine_only():
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "ROS_STATIC_PEERS" not in os.environ
