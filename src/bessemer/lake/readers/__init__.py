"""Readers: from the bytes of one file to documents, one module per format, loaded when a file of it is met."""
