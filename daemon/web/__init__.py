"""The page and the JSON API: what people and programs of the house see without a broker."""
