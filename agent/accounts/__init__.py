"""Accounts: what the passwd package's files say, keys, passwords, and what a cut run has left."""
