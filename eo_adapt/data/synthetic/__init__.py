"""Generators that write synthetic data in the genuine raw layouts."""
