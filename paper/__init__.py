"""The paper's experiments, one module each: they run what is missing, keep every run, and set it beside the print."""
