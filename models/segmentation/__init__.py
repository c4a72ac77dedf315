"""Where is the lesion: the network that outlines it on the whole frame, and its training."""
