"""stspbr: from photographs of one object to a mesh with physically based textures."""

__version__ = "0.1.0"
