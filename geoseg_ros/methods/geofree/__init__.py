"""GeoFree-CoSeg, the learned network: unpaired clouds and images of one unknown target enhance each other."""
