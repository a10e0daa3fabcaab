"""The record of every hand-out, written before the answer leaves."""
