"""Reports of runs, read from the records that runs leave in their folders."""
