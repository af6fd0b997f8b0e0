"""Measuring the machine that trains."""
