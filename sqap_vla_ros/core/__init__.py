"""The contracts that every room uses."""
