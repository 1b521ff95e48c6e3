"""systemd: PID 1 by libsystemd, units, transient units, the journal and the watchdog."""
