"""Static facts of entities: read, loaded into a store, joined with their age."""
