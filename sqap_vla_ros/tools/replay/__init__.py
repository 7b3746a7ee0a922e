"""`sqap-vla replay` and `compare`."""
