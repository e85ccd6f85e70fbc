"""Re-enactment: another face does what a driver does."""
