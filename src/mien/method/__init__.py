"""The paper's method: the six stages of Fig. 2 as six files or folders, and what they share."""
