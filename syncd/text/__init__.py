"""What a text is made of: kinds, headings, pieces to embed, parts of a file, fields that speak of it."""
