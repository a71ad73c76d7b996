"""Studies: which runs answer a question, and how they are launched."""
