"""The training loop and what it needs: losses, schedules, routing of gradients, progress."""
