"""Rays against a triangle mesh: one protocol, several backends."""
