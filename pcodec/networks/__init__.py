"""Neural parts of the codec: mel front end, patch VQ-VAE, vocoders.

Every tensor of features is laid out ``(batch, time, channels)``.
"""
