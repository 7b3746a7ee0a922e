"""`sqap-vla bench`."""
