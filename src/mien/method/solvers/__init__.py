"""The ways in which stages 4 and 5 are solved."""
