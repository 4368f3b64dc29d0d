"""The world, one file per thing touched. Effects never import one another: a connection is passed
in."""
