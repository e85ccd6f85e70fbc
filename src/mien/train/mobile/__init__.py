"""How the networks of the pack `ffhq-mobile` are trained, one command each."""
