"""What answers each route. The only files that know in which order a request is worked through."""
