"""What all of the disks' modules stand on: facts, records, locks, the running system."""
