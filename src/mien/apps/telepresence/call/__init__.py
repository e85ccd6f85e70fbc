"""`mien call`: two ends exchange a person once, then 35 numbers a frame and sound, over WebRTC (the extra `call`)."""
