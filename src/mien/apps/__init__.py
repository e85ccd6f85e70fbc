"""What a user starts: the command line, the studio, batches, the live view."""
