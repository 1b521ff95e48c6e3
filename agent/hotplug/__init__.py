"""CPUs, memory and network interfaces that are added and removed while the machine runs, and coldplug."""
