"""What the tests talk to and with: real sockets on both sides of a real gateway."""
