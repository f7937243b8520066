"""Criteria that choose a checkpoint, one file each. Only ``oracle`` sees target labels, and says so."""
