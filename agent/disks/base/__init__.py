"""Shared by all modules for disks: facts, records, locks, the interface to the running system."""
