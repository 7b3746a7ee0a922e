"""`sqap-vla evaluate`."""
