"""The server of the Model Context Protocol: tools by which agents search and read the mirrors. They change nothing."""
