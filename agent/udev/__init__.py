"""udev: its events, its filter of them, and what it knows of a device."""
