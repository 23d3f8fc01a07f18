//! What a request, an item and a verdict are, and when an item is valid.
