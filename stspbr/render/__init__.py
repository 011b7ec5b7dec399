"""Rendering: the four raster operations and their backends, the glTF BRDF, light, shading and its reference."""
