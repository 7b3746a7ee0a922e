"""Memory of a process that compresses a checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

from paths import HELPERS, ROOT


def test_peak_memory_is_a_small_part_of_a_checkpoint_of_many_layers(tmp_path: Path) -> None:
    script = HELPERS / "compress_in_little_memory.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, script, tmp_path], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    peak_bytes, checkpoint_bytes = map(int, result.stdout.split())
    assert peak_bytes < checkpoint_bytes / 4
