"""SIMPLER (arXiv 2405.05941): simulated scenes like those of published robot data, without ROS."""
