"""This machine: every effect on it, under a root; and facts that need nothing but files."""
