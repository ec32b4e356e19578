"""Hand-over to other tools: one file for each form, and `formats` that chooses among them."""
