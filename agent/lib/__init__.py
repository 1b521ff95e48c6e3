"""What uses nothing else of the package: records, errors, text, and waits with a bound."""
