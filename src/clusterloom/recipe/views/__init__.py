"""Under which changes images stay what they are, and which of these are fair for a set of them."""
