"""The inference graphs, one file each, and what all of them share."""
