"""Trains the demonstration model from nothing: data, tokenizer, network, export and evaluation."""
