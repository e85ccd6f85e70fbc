"""Evaluation of re-synthesis and puppeteering: `evaluate` measures one pair of clips, `suite` many; a metric a file."""
