"""The streaming pipeline and what it runs on. No ROS import."""
