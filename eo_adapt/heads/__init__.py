"""Heads: feature maps in, logits out."""
