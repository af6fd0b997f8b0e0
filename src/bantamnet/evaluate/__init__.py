"""From a net and a split to logits, and from logits to figures."""
