"""How fast the full-size network plans on a device, and how far that is from what the device allows."""
