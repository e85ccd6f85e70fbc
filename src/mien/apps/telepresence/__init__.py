"""Live: a camera or a clip drives a face with little delay (the paper's "telepresence")."""
