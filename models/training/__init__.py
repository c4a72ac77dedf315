"""What the training of all networks shares: the loop, augmentation, painted marks, export."""
