"""What all rooms stand on: files, JSON, names, locks, checksums, processes, CPUs, progress. No torch here."""
