"""The stages that train the network: represent, fit, confidence and refine."""
