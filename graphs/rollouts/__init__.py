"""Rollouts: a candidate for one stage's model beside the stable one, its share of the requests, and its judgement."""
