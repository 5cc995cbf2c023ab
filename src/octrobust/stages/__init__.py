"""What each heavy stage does: read files, call the other rooms, write files."""
