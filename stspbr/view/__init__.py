"""A live page of a run, and films of a turntable."""
