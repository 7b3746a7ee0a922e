"""Whether a set-up will work, in plain words: what it was told, what it sees, and what the machine can do."""
