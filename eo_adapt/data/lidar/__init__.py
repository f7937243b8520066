"""Airborne laser scans: clouds of points become rasters of named bands on a given grid."""
