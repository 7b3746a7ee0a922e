"""Recorded bags through the same observation and policy code, without ROS."""
