"""How likely is it malignant: the network that looks at a lesion with its surroundings, and its training."""
