"""Markdown tables."""

import pytest

from sqap_vla_ros.reporting.tables import markdown_table


def test_a_table_has_a_heading_a_rule_and_rows() -> None:
    table = markdown_table(["row", "success"], [["fp16", "90"], ["a|b", ""]])
    assert table == "| row | success |\n| --- | --- |\n| fp16 | 90 |\n| a\\|b |  |"


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in a table of 2 columns"):
        markdown_table(["row", "success"], [["fp16"]])


def test_numbers_are_aligned_to_the_right() -> None:
    assert markdown_table(["row", "success", "n"], [], numbers=True).splitlines()[1] == "| --- | ---: | ---: |"
