"""udev: its events, its tag filter, and its database."""
