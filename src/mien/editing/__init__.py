"""Editing of a stream's 35 curves: their names, the operations on them, recipes of operations."""
