"""Raw files from their publishers: downloads that resume, archives unpacked safely, and a record of what made what."""
