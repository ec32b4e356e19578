"""What a user has changed about the clusters of a set of images, kept beside the model."""
