"""Which visual tokens stay in the language model."""
