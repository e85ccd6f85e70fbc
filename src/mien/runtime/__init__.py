"""What the program runs on: devices, memory, files, progress, resuming, workers."""
