"""Hand-over to other tools: one file for each form, and `command` that chooses among them."""
