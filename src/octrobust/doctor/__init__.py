"""What `octrobust doctor` looks at. Nothing here writes."""
