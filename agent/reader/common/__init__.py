"""What the dialects and formats are made with: readers of values, problems, bounds."""
