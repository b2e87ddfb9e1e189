"""One verb of the command line a module; each reads as a list of constructions."""
