"""GeoFree-CoSeg, the learned network: unpaired clouds and images of one unknown thing enhance each other."""
