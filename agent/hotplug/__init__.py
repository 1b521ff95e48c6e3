"""CPUs, memory and network interfaces that come and go while the machine runs; the first look at them."""
