"""The small base models of the local scale: their tokenizer, their architectures, and how they are pretrained."""
