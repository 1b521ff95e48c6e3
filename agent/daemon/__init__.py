"""The daemon: main loop, dispatch of device events, control socket and idle exit."""
