"""Where clouds and images come from: folders, recordings, the procedural world."""
