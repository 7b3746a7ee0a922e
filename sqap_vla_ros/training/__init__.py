"""Training of a small CogACT on demonstrations: from episodes to a run directory in the published layout."""
