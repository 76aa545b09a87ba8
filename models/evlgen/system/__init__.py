"""What all rooms stand on: whole files, bounded JSON, printable names, locks, checksums, usable CPUs. No torch here."""
