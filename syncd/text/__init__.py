"""Documents: their type and text, headings, chunks and metadata. Embeddings and requests belong elsewhere."""
