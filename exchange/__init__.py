"""The exchange: a real-time ping-post auction exchange for leads. Start with
`exchange/README.md`."""
