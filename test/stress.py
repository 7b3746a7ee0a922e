"""Runs the live tests several times in a row while a busy loop holds each core; stops at the first failure.

python test/stress.py ROUNDS [pytest's arguments]
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

LIVE = Path(__file__).resolve().parent / "live"


def hold_a_core() -> None:
    """Compute nothing, for ever."""
    while True:
        pass


def main(rounds: int, arguments: list[str]) -> int:
    """Run the rounds.

    Args:
        rounds: How often all live tests must pass.
        arguments: For pytest, in place of the folder of all live tests.

    Returns:
        Exit code of the first round that fails; 0 when all pass.
    """
    loops = [multiprocessing.Process(target=hold_a_core, daemon=True) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    try:
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}, {len(loops)} busy loops", flush=True)
            command = [sys.executable, "-m", "pytest", "-x", "-q", *(arguments or [str(LIVE)])]
            code = subprocess.run(command).returncode
            if code:
                print(f"round {number} of {rounds} failed")
                return code
    finally:
        for loop in loops:
            loop.kill()
    print(f"all {rounds} rounds passed")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
