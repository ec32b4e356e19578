"""Images as points: what they show before anything is learned, in several spaces, and how far each is believed."""
