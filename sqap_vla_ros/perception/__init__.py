"""Perception: images, cameras, transforms and patches become observations."""
