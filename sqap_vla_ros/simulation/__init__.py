"""A simulated robot cell on real ROS topics."""
