"""HTTP in: decode, call one flow, encode. No decisions are made here."""
