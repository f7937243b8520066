"""Methods x shifts x seeds x trials: planned, run, collected, compared."""
