"""Maps: images with masks that stay where they are, and an index that says where."""
