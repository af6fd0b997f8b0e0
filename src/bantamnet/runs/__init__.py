"""Run directories, model files, and finding what a user names."""
