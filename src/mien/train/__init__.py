"""How the pack `mini` was made."""
