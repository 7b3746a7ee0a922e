"""Text on pictures, in every script that a font on this machine has.

DejaVu Sans comes with matplotlib: Latin, Greek, Cyrillic, Arabic and more. Chinese and Japanese come with the optional
extra [fonts], or from the fonts of the system. A character that no font has is written as its name or code, so that it
can still be read: never as a box or a question mark.
"""

import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_LATIN = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
_CHINESE = "pylopdf_fonts_zh_cn", "NotoSansSC-Regular.otf"  # package and file; licensed under the SIL OFL
_SMALLEST = 0.7  # of the size that was asked for: what is longer still is cut


def draw_text(
    picture: NDArray[np.uint8], text: str, left: int, baseline: int, size: float, colour: Colour, width: int = 0
) -> int:
    """Draw a line of text into a picture.

    Args:
        picture: uint8 (height, width, 3), RGB; it is changed.
        text: The line.
        left: Where it begins, pixels.
        baseline: Row that the letters stand on, pixels.
        size: Size of the font, pixels.
        colour: RGB.
        width: Pixels that it may take: a longer line is drawn smaller, and cut with an ellipsis if that is not enough;
            0: any number.

    Returns:
        Its width, pixels.
    """
    text, size = _fitted(text, size, width) if width else (text, size)
    top = max(baseline - round(1.2 * size), 0)
    strip = picture[top : baseline + round(0.5 * size)]  # a picture may be large
    canvas = Image.fromarray(strip)
    pen = ImageDraw.Draw(canvas)
    at = float(left)
    for run, font in _runs(text, size):
        pen.text((at, baseline - top), run, font=font, fill=colour, anchor="ls")
        at += font.getlength(run)
    strip[:] = np.asarray(canvas)
    return round(at - left)


def text_width(text: str, size: float) -> float:
    """Width of a line of text, pixels."""
    return sum(font.getlength(run) for run, font in _runs(text, size))


def readable(text: str) -> str:
    """The text as it is drawn: characters that no font here has are replaced by their names or codes in brackets."""
    return "".join(char if _font_of(char) else _spelled(char) for char in text)


def _fitted(text: str, size: float, width: int) -> tuple[str, float]:
    """The text and the size with which it is no wider than `width`."""
    size = max(min(size, size * width / max(text_width(text, size), 1)), _SMALLEST * size)
    kept = text
    while kept and text_width(text, size) > width:
        kept = kept[:-1]
        text = f"{kept}…"
    return text, size


def _runs(text: str, size: float) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
    """Parts of a text that one font has."""
    for path, characters in groupby(readable(text), lambda char: _font_of(char) or _LATIN):
        yield "".join(characters), _font(path, round(size, 1))


@cache
def _font(path: Path, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _font_of(char: str) -> Path | None:
    """The first font that has a character; None if none has."""
    return next((path for path in _fonts() if FT2Font(str(path)).get_char_index(ord(char))), None)


def _fonts() -> Iterator[Path]:
    """Fonts in the order in which they are asked; those of the system are looked for only if the others do not do."""
    yield _LATIN
    package, file = _CHINESE
    if (spec := find_spec(package)) and spec.origin:
        yield Path(spec.origin).with_name(file)
    yield from _system_fonts()


@cache
def _system_fonts() -> list[Path]:
    found = map(Path, findSystemFonts())
    return sorted(path for path in found if path.suffix.lower() in (".ttf", ".otf", ".ttc") and _opens(path))


def _opens(path: Path) -> bool:
    try:
        FT2Font(str(path))
    except (OSError, RuntimeError):
        return False
    return True


def _spelled(char: str) -> str:
    name = unicodedata.name(char, "")
    # The names of Chinese characters are numbers.
    return f"[{name.lower()}]" if name and "IDEOGRAPH" not in name else f"[U+{ord(char):04X}]"
