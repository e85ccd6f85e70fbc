"""Metrics of re-synthesised video, a file each; `report` puts them together (`mien evaluate`)."""
