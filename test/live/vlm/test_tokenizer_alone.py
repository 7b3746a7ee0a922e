"""Without a tokenizer the error is a sentence, also in a process that imported nothing else before."""

import os
import subprocess
import sys
from pathlib import Path

from paths import ROOT


def test_without_a_tokenizer_the_error_says_so_in_a_fresh_process(tmp_path: Path) -> None:
    """`huggingface_hub.constants` exists only after something has imported it."""
    code = "from pathlib import Path; from sqap_vla_ros.vlm.tokenizer import find_tokenizer; find_tokenizer(Path('.'))"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "TokenizerError: no tokenizer.json" in result.stderr, result.stderr
