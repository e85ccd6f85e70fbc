"""Many clips on several workers or on a cluster."""
