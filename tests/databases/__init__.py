"""Both databases: schema, limits, outages."""
