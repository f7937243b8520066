"""From raw files to batches of domains."""
