"""What `make bench` runs: a million users, the console's own code, and what it is measured against, in one run on one machine."""
