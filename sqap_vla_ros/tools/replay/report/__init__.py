"""The report of a replay, `report.html`, from its results.

`page` puts it together from `plots` (what is drawn, by `svg`), `tables` and `ticks` (the worst ticks with pictures).
"""
