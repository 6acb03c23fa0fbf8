"""What plugs in: the nouns, their hooks, and the loader that finds them."""
