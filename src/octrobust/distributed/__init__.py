"""One stage on several processes: which one this is, and what they say to each other."""
