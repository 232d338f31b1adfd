"""How a file stores data sets: links, layouts, chunk maps, filters. Reads no rows."""
