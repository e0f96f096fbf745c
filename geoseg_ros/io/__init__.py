"""Cloud files, image folders, recordings, and the arrays inside ROS messages. No ROS import."""
