"""Who is measured: checkpoints and what they say about themselves."""
