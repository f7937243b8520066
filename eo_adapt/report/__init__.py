"""What a run leaves behind: report.json, predictions.parquet, figures, and the last lines on the screen."""
