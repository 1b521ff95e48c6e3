"""How a filesystem, and what lies below it, becomes as large as its disk."""
