"""What can be said of points, whatever they are points of: neighbours, layouts, mixtures and partitions."""
