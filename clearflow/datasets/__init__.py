"""Datasets: versions of files in the store, each a registry entry with a manifest of its files.

shelf      finding them, and what is in them        copies     on this machine
making     drafts, uploads, finalizing, squashing   leaving    deletion
scan → sending → the store → fetching
"""
