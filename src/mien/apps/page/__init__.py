"""A folder that plays streams in a web browser, without a server behind it."""
