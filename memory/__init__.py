"""Carriers to what a question reads: bounded bank, retention, recall. Imports `stream` only, never `daemon`."""
