"""The raster operations as Warp kernels: for NVIDIA GPUs, and on Warp's CPU device for tests."""
