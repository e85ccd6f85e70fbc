"""Train generator, encoder and head-pose flow together."""
