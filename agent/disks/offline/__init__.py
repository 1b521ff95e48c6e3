"""The disk of an image that no machine runs: attach it, find its root filesystem, grow, mount."""
