"""Packs: which networks work together, where they come from, how they are loaded."""
