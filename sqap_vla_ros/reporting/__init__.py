"""Tables, plots, videos and statistics of what was measured."""
