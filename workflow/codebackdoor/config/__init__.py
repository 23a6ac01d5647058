"""Settings: pydantic models of every section of a configuration, how it is read, checked and explained."""
