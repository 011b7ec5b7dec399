"""What is done to frames between a reader and the capture: framing, resampling, exposure, the light's frame."""
