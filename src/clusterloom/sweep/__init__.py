"""Sweeps: many settings of a method tried on the same images, ranked without labels, by any number of workers."""
