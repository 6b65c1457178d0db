"""vLLM in the same process, and all that only it needs."""
