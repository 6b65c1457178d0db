"""The run directory: its layout, and every way to append, read and compact records."""
