"""One fit loop, for clean training and for hardening."""
