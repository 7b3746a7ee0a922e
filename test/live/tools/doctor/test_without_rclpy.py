"""`sqap-vla doctor` on a machine without ROS."""

import subprocess
import sys
from pathlib import Path

from synthetic_bags import write_bag

ROBOT = """/**:
  ros__parameters:
    robot_name: synthetic
    device: cpu
    frames: {base: base, tool: tool}
    action: {rate_hz: 10.0}
"""


def test_a_bag_is_examined_without_rclpy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['rclpy'] = None; from sqap_vla_ros.cli import main; sys.argv[0] = 'sqap-vla'; main()"
    )
    robot = tmp_path / "robot.yaml"
    robot.write_text(ROBOT)
    words = ["doctor", write_bag(tmp_path / "bag"), "--robot", robot, "--out", tmp_path / "out"]
    result = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "this will work" in result.stdout
