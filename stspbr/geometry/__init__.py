"""Shapes that can be optimised: tetrahedral grids, marching tetrahedra, fixed topology, hulls, regularisers."""
