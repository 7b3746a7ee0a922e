"""One folder per command of `sqap-vla`."""
