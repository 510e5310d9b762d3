"""One HTML page of the runs of a sweep beside the published numbers."""
