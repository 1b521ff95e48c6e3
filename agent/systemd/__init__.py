"""systemd: PID 1 over libsystemd, units, transient units, the journal and the watchdog."""
