"""The documentation that every machine with Python already has, as documents. Nothing of it is imported to be read."""
