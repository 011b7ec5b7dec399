"""Scenes for learned representations: their description, what is random in them, and their data on disk."""
