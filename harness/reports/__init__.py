"""One document of results, and every way to show it."""
