"""The process: settings in, answers out. May import `memory` and `stream`."""
