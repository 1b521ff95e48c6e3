"""Modules that use nothing else of the package: records, errors, text, bounded waits."""
