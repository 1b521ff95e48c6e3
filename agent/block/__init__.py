"""Block devices: what they are, who uses them, whether they answer, and whether they are unused."""
