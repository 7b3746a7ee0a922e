"""Success in closed loop: the same episodes under every policy, and what the outcomes say."""
