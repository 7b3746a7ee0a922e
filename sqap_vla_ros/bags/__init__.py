"""Recordings: rosbag2 and MCAP files are read, recovered and turned into observations."""
