"""`sqap-vla doctor`."""
