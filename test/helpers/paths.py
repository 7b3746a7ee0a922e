"""Where the repository, its test data and the helpers are, whatever folder a test is in."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parents[1]
DATA = ROOT / "test" / "data"
