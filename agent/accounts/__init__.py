"""Accounts: passwd files, SSH keys, passwords, and accounts that were left unfinished."""
