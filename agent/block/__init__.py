"""Facts about block devices: their kind, their uses, whether they answer, and whether they are blank."""
