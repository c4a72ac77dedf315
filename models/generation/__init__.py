"""The generator of labelled breast ultrasound images: training, sampling, what it writes."""
