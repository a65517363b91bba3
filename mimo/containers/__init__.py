"""What a photograph's file carries besides its pixels, one module per container. Bytes in, bytes out; nothing is decoded."""
