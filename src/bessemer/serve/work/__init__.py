"""What clients leave to be done: files and uploads, fine-tuning jobs, batches, on OpenAI's wire.

Owns their records, their bytes and their endpoints. Knows no trainer: jobs are driven from outside, through the store.
"""
