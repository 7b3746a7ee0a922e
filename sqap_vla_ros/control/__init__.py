"""From an action chunk to a checked, timed joint trajectory."""
