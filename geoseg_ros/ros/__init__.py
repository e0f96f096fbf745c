"""The ROS 2 edge: nodes, message codecs, parameters. The only room that imports rclpy."""
