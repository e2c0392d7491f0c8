"""Fine-tuning jobs of the gateway's clients, run by the line's own trainer.

Owns the way from a job to a served model. Knows no HTTP.
"""
