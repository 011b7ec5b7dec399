"""Slow, obvious, double-precision twins of the raster operations. Import them from their modules."""
