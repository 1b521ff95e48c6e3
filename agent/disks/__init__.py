"""Data disks: found, mounted, grown, given up; and the root disk grown."""
