"""Optimisers in groups, learning-rate schedules, moving averages of weights."""
