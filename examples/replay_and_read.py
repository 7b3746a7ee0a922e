"""A bag replayed with a policy and a baseline, and what came out read from Parquet.

Usage: python examples/replay_and_read.py BAG [OUT] [ROBOT]
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

bag = sys.argv[1]
out = Path(sys.argv[2] if len(sys.argv) > 2 else "out/replayed")
robot = sys.argv[3] if len(sys.argv) > 3 else "libero_panda"

replay = [sys.executable, "-m", "sqap_vla_ros", "replay", bag, "--robot", robot, "--out", str(out)]
replay += [
    "--checkpoint",
    "libero_small",
    "--policy",
    "sqap",
    "--baseline",
    "fp16",
    "--noise-floor",
    "off",
]  # no verdict
subprocess.run(replay, check=True)

ticks = parquet.read_table(out / "ticks.parquet").to_pylist()
planned = [tick for tick in ticks if tick["actions"]]
print(f"{len(planned)} of {len(ticks)} ticks were planned, with {len(planned[0]['kept_tokens'])} visual tokens each")
for tick in planned[:5]:
    actions, baseline = (np.reshape(tick[name], (-1, 7)) for name in ("actions", "baseline_actions"))
    apart = np.linalg.norm((actions - baseline)[:, :3].sum(axis=0))
    print(f"  {tick['stamp_ns']}: the plans of the two policies end {1e3 * apart:.0f} mm apart")
