"""The only code that awaits more than one effect: it introduces the core's decisions to the
world."""
