"""Personalisation: pivotal tuning (Sec. 4.1) and the refinement that follows it."""
