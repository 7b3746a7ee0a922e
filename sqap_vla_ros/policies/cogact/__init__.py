"""CogACT: the action head and the policy around it."""
