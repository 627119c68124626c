"""What the demo and the tests need from outside: a broker and a camera, in pure Python."""
