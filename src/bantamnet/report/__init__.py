"""What a run shows: pictures of it."""
