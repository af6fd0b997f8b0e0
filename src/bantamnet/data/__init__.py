"""Data: sources, splits, augmentation, preprocessing."""
