"""Drive a robot arm with a quantised, pruned Vision-Language-Action policy over ROS 2."""

__version__ = "0.1.0"
