"""What can be set, typed: robot, policy, recipe, and where the files are."""
