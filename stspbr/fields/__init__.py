"""Fields over space: hash-grid encodings and the material networks. Import them from their modules."""
