"""Stage 1: track the face, steady the crop, read the roll (the paper, Sec. 3.2)."""
