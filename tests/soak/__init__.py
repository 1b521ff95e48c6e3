"""``make soak``: what is too long for each run of make test, whole or in parts, and what it found."""
