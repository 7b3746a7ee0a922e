"""What the words of the command line mean."""

import pytest

from sqap_vla_ros.config.files import ConfigurationError
from sqap_vla_ros.tools.evaluation.variants import UNDISTURBED, Condition, Variant, parse_conditions


@pytest.mark.parametrize("word", ["fp16", "sqap@w4a4"])
def test_a_policy_is_written_as_it_was_read(word: str) -> None:
    assert str(Variant.parse(word)) == word


@pytest.mark.parametrize("word", ["", "@w4a4", "sqap@"])
def test_half_a_policy_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match="expected POLICY or POLICY@RECIPE"):
        Variant.parse(word)


def test_disturbances_come_after_the_undisturbed_condition() -> None:
    expected = (UNDISTURBED, Condition("tf_offset", 0.01), Condition("tf_offset", 0.02), Condition("delay", 0.3))
    assert parse_conditions(["tf_offset=0.01,0.02", "delay=0.3"]) == expected


@pytest.mark.parametrize(
    "word", ["tf_offset", "tf_offset=", "tf_offset=-1", "tf_offset=nan", "tf_offset=0", "delay=inf", "drop_frames=1.5"]
)
def test_a_disturbance_without_a_size_is_refused(word: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a positive number"):
        parse_conditions([word])


@pytest.mark.parametrize("words", [["delay=0.1,0.10"], ["delay=0.1", "delay=0.1"]])
def test_a_disturbance_that_is_named_twice_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"'delay=0.1' is given twice"):
        parse_conditions(words)


def test_an_unknown_disturbance_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'rain=1'.*tf_offset \[m\].*drop_frames \[share\]"):
        parse_conditions(["rain=1"])
