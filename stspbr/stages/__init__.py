"""One module per command: it reads artifacts, does the work with the library rooms, and writes one artifact."""
