"""The language model as a product: documents in, a fine-tuned, gated, compiled and grounded assistant out."""
