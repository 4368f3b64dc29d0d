"""The quiet floor: no await, no clock, no chance, no ids made, no logging, no settings, no I/O."""
