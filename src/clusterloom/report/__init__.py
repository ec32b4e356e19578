"""`clusterloom report`: a fitted model, and what it says of a set of images, as one HTML file to send."""
