"""A browser without a window, where the machine has one."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Loaded:
    """A page as the browser has it.

    Attributes:
        dom: The document after loading, as HTML.
        console: What the page wrote to the console, or the browser about it.
        picture: uint8 (height, width, 3), RGB.
    """

    dom: str
    console: list[str]
    picture: NDArray[np.uint8]


def load(page: Path, folder: Path, width: int = 1280, dark: bool = False) -> Loaded:
    """Load a file; skips the test where there is no browser."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip(f"no headless browser: none of {', '.join(_NAMES)} is installed")
    # As root, Chromium has no sandbox; the profile is the test's own.
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},2400"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    shot = folder / "shot.png"
    url = page.absolute().as_uri()
    dumped = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=60, check=True)
    subprocess.run([*command, f"--screenshot={shot}", url], capture_output=True, timeout=60, check=True)
    picture = cv2.imread(str(shot), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    console = [line for line in dumped.stderr.splitlines() if "CONSOLE" in line]
    return Loaded(dumped.stdout, console, np.asarray(picture, np.uint8))
