"""eo_adapt: move Earth-observation models to places, seasons and sensors they were not trained on."""

__version__ = "0.1.0"
