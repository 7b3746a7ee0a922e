"""The ROS 2 node; with simulation/, the only place that imports rclpy."""
