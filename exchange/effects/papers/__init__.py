"""Papers: what leaves the house as a file, for people and their spreadsheets."""
