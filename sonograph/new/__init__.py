"""`sonograph new`: a further model or graph in a checkout of the repository, from the templates beside this module."""
