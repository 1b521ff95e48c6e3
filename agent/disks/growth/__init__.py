"""Grow a filesystem, and the layers below it, to the size of its disk."""
