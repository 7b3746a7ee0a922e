"""Instructions that the policy was not trained on."""

import pytest

from sqap_vla_ros.core.instruction import warning_about


@pytest.mark.parametrize("words", ["把抽屉关上", "öffne die Schublade", "открой ящик", "close the drawer 🤖"])
def test_letters_that_are_not_english_are_warned_of(words: str) -> None:
    warning = warning_about(words)
    assert words in warning and "trained on English" in warning


@pytest.mark.parametrize("words", ["close the top drawer", "pick up the robot’s “can” – gently…", ""])
def test_english_is_not(words: str) -> None:
    assert warning_about(words) == ""
