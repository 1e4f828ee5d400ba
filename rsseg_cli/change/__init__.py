"""Two dates of one place: made comparable, so that what differs is change."""
