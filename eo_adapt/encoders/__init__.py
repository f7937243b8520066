"""Encoders: sensors in, feature maps out."""
