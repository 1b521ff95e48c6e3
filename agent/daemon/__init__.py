"""The daemon: its loop, from an event to its handler, its control socket, and when it may leave."""
