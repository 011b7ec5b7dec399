"""The training loop and its parts: losses, routing of gradients, views, the survey, progress."""
