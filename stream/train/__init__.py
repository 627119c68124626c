"""Training: the procedural street, its questions, and the loop. The daemon never imports this package."""
