"""Official checkpoints to packs, without running anything of them."""
