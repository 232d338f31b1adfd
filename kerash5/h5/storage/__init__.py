"""How a file stores data sets: links, layouts, chunk maps and filters. Nothing here reads rows."""
