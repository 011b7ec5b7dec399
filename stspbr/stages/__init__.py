"""One module a command: each reads artifacts, does the work through the library rooms, writes one artifact."""
