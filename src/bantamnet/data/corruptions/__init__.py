"""Common corruptions of 32×32 images, in five severities each (Hendrycks & Dietterich 2019, arXiv 1903.12261).

Generated here, by their published definitions and constants for CIFAR: not the official files. Each is an `Operation`: its
chance is drawn by `draw`, its pixels are changed by `apply`.
"""
