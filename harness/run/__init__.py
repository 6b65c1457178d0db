"""From a config to records: plan, checks before anything is loaded, execution, fetch and lock."""
