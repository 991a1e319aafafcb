"""The command line: parsing and printing only. Everything else is asked of the controller through the client."""
