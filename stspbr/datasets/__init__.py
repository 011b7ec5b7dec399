"""Captures in and out: photographs' data sets, their lenses, axes, exposure; preparation of frames."""
