"""How buyers speak: pure functions from values to bytes and from any bytes to an answer."""
