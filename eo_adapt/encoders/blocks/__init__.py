"""Parts that encoders are built of."""
