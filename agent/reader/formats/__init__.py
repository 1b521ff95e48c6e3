"""In which syntax something is written."""
