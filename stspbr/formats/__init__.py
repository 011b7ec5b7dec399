"""Readers and writers: images, ORM packing, glTF, OBJ, captures. They know plain data (``stspbr.scene``) only."""
