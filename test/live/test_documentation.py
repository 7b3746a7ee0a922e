"""The examples, the README's code and the site, as a reader has them; long commands on a smaller size."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from headless_browser import load
from paths import ROOT
from synthetic_bags import write_bag

BIN = Path(sys.executable).parent
# The commands of the README that no test runs here, and why.
NOT_RUN = {
    "git clone": "the checkout is there",
    "make": "each sets up an environment; the tests of the set-up and CI run them",
    "ros2 launch": "needs a robot's workstation; test/live/launch reads the launch files",
}
SMALLER = {"--episodes": "1"}
ROBOT = """
/**:
  ros__parameters:
    robot_name: synthetic
    statistics_key: libero
    frames: {base: base, tool: tool, camera: camera}
"""


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The README's shell commands as words, comments and line continuations taken out."""
    found = []
    for block in blocks("bash", (ROOT / "README.md").read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            found += [
                words
                for part in line.split("&&")
                if (words := shlex.split(part.replace("<", "'<").replace(">", ">'"), comments=True))
            ]
    return found


def is_run(words: list[str]) -> bool:
    return not any(" ".join(words).startswith(start) for start in (*NOT_RUN, "cd "))


RUN = [words for words in commands() if is_run(words)]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder that looks like a checkout after `make demo`, with a bag of one second."""
    for name in ("config", "examples", "docs", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(BIN)
    (tmp_path / "synthetic.yaml").write_text(ROBOT)
    (tmp_path / "out" / "demo").mkdir(parents=True)
    write_bag(tmp_path / "out" / "demo" / "bag", seconds=0.5)
    return tmp_path


def run(words: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    # Of half a second the verdict is that it cannot be told.
    expected = 3 if "--baseline-checkpoint" in words else 0
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def test_the_readme_has_commands_that_are_run_and_names_the_others() -> None:
    assert {words[1] for words in RUN} == {"replay", "evaluate"}
    assert all(any(" ".join(words).startswith(start) for words in commands()) for start in NOT_RUN)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", RUN, ids=lambda words: words[1])
def test_a_command_of_the_readme_does_what_it_says(words: list[str], workplace: Path) -> None:
    words = [SMALLER.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    more = (
        ["--robot", "synthetic.yaml"]
        if words[1] == "replay"
        else [
            *("--tasks", "close_drawer", "--videos", "0", "--workers", "1"),
            *("--calibration", "out/demo/bag", "--frames", "2"),
        ]
    )
    run([*words, *more], workplace)
    out = workplace / words[words.index("--out") + 1]
    assert (out / ("report.html" if words[1] == "replay" else "results.md")).exists()


@pytest.mark.timeout(300)
def test_the_readmes_python_plans(workplace: Path) -> None:
    (code,) = blocks("python", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert run([sys.executable, "-c", code], workplace).endswith("(16, 7) 154 of 256 visual tokens kept\n")


@pytest.mark.timeout(300)
def test_the_example_plans_one_image(workplace: Path) -> None:
    said = run([sys.executable, "examples/plan_one_image.py"], workplace)
    assert "16 actions of 0.05 s from 154 of 256 visual tokens" in said


@pytest.mark.timeout(300)
def test_the_example_replays_a_bag_and_reads_it(workplace: Path) -> None:
    said = run(
        [sys.executable, "examples/replay_and_read.py", "out/demo/bag", "out/replayed", "synthetic.yaml"], workplace
    )
    assert "5 of 5 ticks were planned, with 154 visual tokens each" in said


@pytest.mark.timeout(600)
def test_the_site_is_built_strictly_works_offline_and_fits_a_phone(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: make docs")
    site = tmp_path / "site"
    run([str(BIN / "mkdocs"), "build", "--strict", "--quiet", "--site-dir", str(site)], ROOT)
    pages = sorted(site.rglob("*.html"))
    assert site / "reference" / "robot-file.html" in pages
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text(encoding="utf-8"))
        assert not loaded, f"{page.name} loads {loaded} from the network"
    shown = load(site / "index.html", tmp_path, width=390)
    assert "Three doors" in shown.dom
