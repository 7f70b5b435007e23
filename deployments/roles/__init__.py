"""What a model of a role takes and returns, one module for each role: any model of a role can take another one's place in a graph."""
