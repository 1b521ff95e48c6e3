"""Access to the machine: every effect on it, below a root, and facts that only need files."""
