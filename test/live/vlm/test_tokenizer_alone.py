"""Without a tokenizer the error is a sentence, also in a process that imported nothing else before."""

import os
import subprocess
import sys
from pathlib import Path

from paths import ROOT
from synthetic_bags import write_bag

from sqap_vla_ros.testing.random_checkpoint import write_random_checkpoint

SENTENCE = "no tokenizer.json in {}, and HF_HUB_OFFLINE is set. Ask for access to meta-llama/Llama-2-7b-hf"


def test_without_a_tokenizer_every_command_says_so_in_a_process_of_its_own(tmp_path: Path) -> None:
    """`huggingface_hub.constants` exists only after something has imported it."""
    run = write_random_checkpoint(tmp_path / "run", "tiny")
    (run / "tokenizer.json").unlink()
    bag = write_bag(tmp_path / "bag", seconds=0.2)
    robot = tmp_path / "robot.yaml"
    robot.write_text("/**:\n  ros__parameters:\n    frames: {base: base, tool: tool}\n")
    commands = [
        ["compress", run],
        ["replay", bag, "--robot", robot, "--checkpoint", run],
        ["doctor", bag, "--robot", robot, "--checkpoint", run],
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "1000"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "sqap_vla_ros", *map(str, command)],
            env=environment,
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for command in commands
    ]
    for process, code in zip(started, (2, 2, 1), strict=True):  # the doctor goes on with its other findings
        said = " ".join(process.communicate()[0].split())
        assert SENTENCE.format(run) in said and "Traceback" not in said, said
        assert process.returncode == code, said
