"""Networks, as their authors published them or as the pack `mini` has them."""
