"""Images, video and sound, in and out."""
