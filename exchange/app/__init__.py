"""The only place where parts are built and joined: what starts, in which order, and stops in
reverse.

`ground` is what every process stands on; a *worker* answers requests; the *jobs* process does what
nobody waits for; `processes` starts them. No part reads a setting or makes another part itself.
"""
