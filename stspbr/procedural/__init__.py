"""Objects and lights that stspbr makes itself."""
