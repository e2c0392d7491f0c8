"""Training: questions and answers from documents, supervised LoRA fine-tuning with exact resume, merging."""
