"""What the README says about itself."""

import re

from benchmarks.readme import BEGIN, END, README, tables


def test_the_tables_are_those_of_the_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == tables().strip()


def test_every_relative_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert targets and all((README.parent / target).exists() for target in targets)
