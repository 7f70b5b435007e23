"""`sonograph rollout`: a candidate for one stage's model, from its start to its promotion or removal."""
