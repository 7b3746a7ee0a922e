"""The vision-language network."""
