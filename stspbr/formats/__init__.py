"""Readers and writers: images, ORM packing, glTF, OBJ, USD. They depend on plain data (``stspbr.scene``) only."""
