"""The endpoints of OpenAI's and Anthropic's wires beside chat completions: our own schemas, one order of things.

Owns completions, embeddings, responses, messages and what is stored of answers. Knows no engine's inside.
"""
