"""Maps of scenes and tables of parcels from a trained network. Import from the modules inside."""
