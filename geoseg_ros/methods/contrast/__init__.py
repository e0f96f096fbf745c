"""GeoFree-CoSeg: what recurs in a concept, minus what recurs elsewhere, in images and in clouds."""
