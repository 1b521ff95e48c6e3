"""A machine that was restored from a saved state, copied while it ran, or resumed from suspend."""
