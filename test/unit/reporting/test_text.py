"""Text on pictures: letters of any script, never a question mark in place of one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sqap_vla_ros.reporting import text
from sqap_vla_ros.reporting.text import draw_text, readable, text_width

WHITE = (255, 255, 255)


def drawn(words: str, width: int = 0) -> NDArray[np.uint8]:
    """uint8 (60, 600, 3), black, with the words in white."""
    picture = np.zeros((60, 600, 3), np.uint8)
    draw_text(picture, words, 10, 40, 20.0, WHITE, width)
    return picture


@pytest.mark.parametrize("words", ["öffne die Schublade", "открой ящик", "άνοιξε το συρτάρι", "± 1° → …"])
def test_letters_beyond_ascii_are_drawn_as_they_are(words: str) -> None:
    assert readable(words) == words
    assert not np.array_equal(drawn(words), drawn("?" * len(words)))


def test_chinese_is_drawn_by_the_font_of_the_extra() -> None:
    pytest.importorskip("pylopdf_fonts_zh_cn", reason="the optional extra [fonts] is not installed")
    assert readable("把抽屉关上") == "把抽屉关上"
    first, second = drawn("把"), drawn("抽")
    assert first.any() and not np.array_equal(first, second)  # no placeholder for both
    assert text_width("把抽屉关上", 20.0) == pytest.approx(5 * 20, rel=0.1)


def test_without_a_font_a_character_is_written_so_that_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_fonts", lambda: iter([text._LATIN]))
    text._font_of.cache_clear()
    try:
        assert readable("关 🤖 ok") == "[U+5173] [robot face] ok"
    finally:
        text._font_of.cache_clear()


def test_what_is_drawn_takes_the_width_that_is_told() -> None:
    picture = np.zeros((60, 600, 3), np.uint8)
    width = draw_text(picture, "close the drawer", 10, 40, 20.0, WHITE)
    columns = np.flatnonzero(picture.any(axis=(0, 2)))
    assert columns.min() >= 8 and columns.max() == pytest.approx(10 + width, abs=3)


@pytest.mark.parametrize("words", ["a line that is a little too long", "word " * 60])
def test_a_line_that_is_too_long_stays_within_its_width(words: str) -> None:
    columns = np.flatnonzero(drawn(words, 250).any(axis=(0, 2)))
    assert 200 < columns.max() <= 262
