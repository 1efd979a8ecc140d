"""The files that configure a server, and the messages that they hold."""
