"""Find, mount, grow and detach data disks; grow the root disk."""
