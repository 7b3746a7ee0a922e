"""`sqap-vla train`."""
