"""What generated pictures are worth, how private and how true to life they are: measured, not judged."""
