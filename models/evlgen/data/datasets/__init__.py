"""Published data sets: the files in which people have them, how large they are, and where they come from."""
