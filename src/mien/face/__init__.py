"""Geometry of a face: the mesh, what is measured on it, masks of its parts."""
