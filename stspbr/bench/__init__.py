"""The speed of a step, its parts, and alternatives. Import from the modules."""
