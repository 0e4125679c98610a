"""The models, what they have in common, and the folder they are kept in."""
