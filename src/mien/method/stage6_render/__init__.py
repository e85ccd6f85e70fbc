"""Stage 6: a stream to frames, and frames put back into the clip."""
