"""The file of CONFIG_METRICS_FILE, for node_exporter's textfile collector; not imported without it."""
