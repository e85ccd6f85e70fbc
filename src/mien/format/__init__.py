"""The .mien and .person files: container, sections, codecs."""
