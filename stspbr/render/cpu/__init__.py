"""The embedded CPU backend: Numba kernels wrapped as autograd functions. Import the operations from their modules."""
