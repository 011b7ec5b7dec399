"""From photographs of one object to frames: poses, masks and the object's own frame of reference."""
